"""Networks of the reference implementations: found by the names and shapes of their tensors, and called as there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from p2pkit.networks.layers import Norm

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor of a network, by its name in the file of a reference implementation."""


class OfReference(Protocol):
    """What a generator or a discriminator has whose weights can be those of a reference implementation."""

    @staticmethod
    def from_reference(shapes: Shapes, *channels: int) -> Mapping[str, Any] | None:
        """The parameters, a generator's with ``source_channels`` and ``target_channels``, of the network with tensors
        of these ``shapes``; None for another network's.

        A discriminator gets the ``channels`` of its generator, source's and target's. What the tensors do not tell is
        left out. Names and shapes are compared with those of the network that is made so; a guess will do.
        """
        ...

    def reference_layers(self) -> Mapping[str, str]:
        """The name there of each layer that has tensors, by its name here. Names of no layer here do no harm."""
        ...


def norm_in(shapes: Shapes, convolution: str, norm: str) -> Norm:
    """The norm behind a ``convolution``, which has the place called ``norm``.

    Instance norm has no tensors, but in the reference implementation it is the only one whose convolutions have a bias.
    """
    if f"{norm}.weight" in shapes:
        return "batch"
    return "instance" if f"{convolution}.bias" in shapes else "none"
