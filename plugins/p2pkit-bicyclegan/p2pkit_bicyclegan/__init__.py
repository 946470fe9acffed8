"""BicycleGAN: many outputs for one source, each a function of a latent vector (Zhu et al. 2017, arXiv 1711.11586)."""

from __future__ import annotations

from p2pkit import hookimpl
from p2pkit.hookspecs import Register


@hookimpl
def register_generators(register: Register) -> None:
    """The U-Net that takes a latent."""
    from p2pkit_bicyclegan.generator import LatentUNet

    register("bicyclegan_unet", LatentUNet)


@hookimpl
def register_methods(register: Register) -> None:
    """The method itself."""
    from p2pkit_bicyclegan.method import BicycleGAN

    register("bicyclegan", BicycleGAN)
