"""Normalisation layers by name, and the initial weights of the paper."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["batch", "instance", "none"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation layer called ``norm`` for ``channels`` channels."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


def has_bias(norm: Norm) -> bool:
    """Whether a convolution before such a norm has a bias: batch norm brings its own."""
    return norm != "batch"


def initialise(network: nn.Module) -> None:
    """Draw all weights as the paper does: convolutions N(0, 0.02), batch norm N(1, 0.02), biases 0 (section 6.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def hold_spectral_norms(network: nn.Module) -> None:
    """Divide every convolution's weight by its largest singular value from now on (Miyato et al. 2018, section 2.1).

    The value is that of one power iteration a call in training, whose vectors are buffers. Initial weights come first.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            spectral_norm(module)
