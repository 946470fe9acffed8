"""What pix2pix's networks are made of: normalisation by name, upsampling, the initial weights of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["batch", "instance", "none"]
HAS_BIAS: Mapping[Norm, bool] = {"batch": False, "instance": True, "none": True}
"""Whether a convolution before such a norm has a bias: batch norm has its own."""
Upsampling = Literal["transposed", "resize"]
"""Transposed convolutions as in the paper, or nearest-neighbour resizing and a 3x3 convolution: no checkerboard."""


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation layer called ``norm`` for ``channels`` channels."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


def initialise(network: nn.Module) -> None:
    """Draw all weights as the paper does (section 6.2).

    Those of convolutions and linear layers are N(0, 0.02), of batch norm N(1, 0.02), biases 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
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


def upsample(channels_in: int, channels: int, upsampling: Upsampling, bias: bool) -> list[nn.Module]:
    """Layers that double height and width."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(channels_in, channels, 4, 2, 1, bias=bias)]
    return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels_in, channels, 3, 1, 1, bias=bias)]


def output_layers(channels_in: int, width: int, channels: int, upsampling: Upsampling) -> nn.Sequential:
    """The end of a decoder: twice the size, ``channels`` in [-1, 1]; ``width`` is that of its last block."""
    if upsampling == "transposed":
        return nn.Sequential(nn.ReLU(), *upsample(channels_in, channels, upsampling, bias=True), nn.Tanh())
    # a resized map varies from pixel to pixel only after a layer of its own at full size
    full = upsample(channels_in, width, upsampling, bias=True)
    return nn.Sequential(nn.ReLU(), *full, nn.ReLU(), nn.Conv2d(width, channels, 3, 1, 1), nn.Tanh())


def enlarging_end(channels_in: int, width: int, channels: int, scale: int) -> nn.Sequential:
    """The end of a generator of targets ``scale`` times as high and wide as what it is given; ``channels`` in [-1, 1].

    For each prime factor it resizes to the nearest neighbour and convolves, which leaves no checkerboard (Odena et al.
    2016). Give it the source beside the last features: what is sharp there is not halved on the way then.
    """
    layers: list[nn.Module] = []
    factor = 2
    while scale > 1:
        while scale % factor:
            factor += 1
        scale //= factor
        resized = nn.Upsample(scale_factor=factor, mode="nearest")
        layers += [resized, nn.Conv2d(channels_in, width, 3, 1, 1), nn.ReLU()]
        channels_in = width
    return nn.Sequential(*layers, nn.Conv2d(channels_in, channels, 3, 1, 1), nn.Tanh())
