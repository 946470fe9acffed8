"""pix2pixHD (Wang et al. 2018): label maps to photos of 2048x1024, coarse first, then together."""

from __future__ import annotations

from p2pkit import hookimpl
from p2pkit.hookspecs import Register


@hookimpl
def register_generators(register: Register) -> None:
    """The global network, and the one with local enhancers around it."""
    from p2pkit_hd.generator import HDGlobal, HDLocal

    register("hd_global", HDGlobal)
    register("hd_local", HDLocal)


@hookimpl
def register_discriminators(register: Register) -> None:
    """PatchGANs on an image pyramid."""
    from p2pkit_hd.discriminator import HDMultiscale

    register("hd_multiscale", HDMultiscale)


@hookimpl
def register_methods(register: Register) -> None:
    """pix2pixHD's training, in one phase or two."""
    from p2pkit_hd.method import Pix2PixHD

    register("pix2pix_hd", Pix2PixHD)


@hookimpl
def register_encodings(register: Register) -> None:
    """Classes, one channel each, and the boundaries between instances."""
    from p2pkit_hd.encoding import ClassAndBoundary

    register("class_and_boundary", ClassAndBoundary)
