"""What pix2pix's networks are made of: normalisation by name, upsampling, the initial weights of the paper.

And how a CPU computes convolutions of small maps: the innermost layers of a U-Net have large weights and maps of a few
pixels, so that reading weights is nearly all they do. As one product of matrices, of columns of the map (unfold, fold)
and the weights, each of these is read once, which its convolution library does not come near.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["batch", "instance", "none"]
HAS_BIAS: Mapping[Norm, bool] = {"batch": False, "instance": True, "none": True}
"""Whether a convolution before such a norm has a bias: batch norm has its own."""
Upsampling = Literal["transposed", "resize"]
"""Transposed convolutions as in the paper, or nearest-neighbour resizing and a 3x3 convolution: no checkerboard."""
Layer = nn.Conv2d | nn.ConvTranspose2d
MOST_POSITIONS = 64
"""Of the smaller map, in the whole batch. From 256 on the library is as fast, on AVX2 and on AVX-512."""
FEWEST_WEIGHTS = 2**17
"""Below, a layer takes less time than it takes to arrange its map in columns."""


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


def multiply_small_maps(network: nn.Module) -> None:
    """Let the plain convolutions of ``network`` that have many weights multiply matrices wherever their map is small.

    Parameters, buffers and their names stay, and so do the results, but for rounding.
    """
    for module in network.modules():
        # not those of subclasses, which may compute something else
        if not isinstance(module, Layer) or type(module) not in _BY_MATRIX:
            continue
        usual = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        if usual and module.weight.numel() >= FEWEST_WEIGHTS:
            module.__class__ = _BY_MATRIX[type(module)]


class _Conv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in torch
        size = _side(self, input, 2), _side(self, input, 3)
        if not _takes_product(self, input, size):
            return super().forward(input)
        assert not isinstance(self.padding, str)
        patches = F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)
        patches = patches.transpose(1, 2).reshape(-1, patches.shape[1])
        output = F.linear(patches, self.weight.reshape(self.out_channels, -1), self.bias)
        return output.view(len(input), math.prod(size), -1).transpose(1, 2).reshape(len(input), -1, *size)


class _ConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - as in torch
        size = _enlarged(self, input, 2), _enlarged(self, input, 3)
        if output_size is not None or min(size) < 1 or not _takes_product(self, input, input.shape[2:]):
            return super().forward(input, output_size)
        assert not isinstance(self.padding, str)
        pixels = input.flatten(2).transpose(1, 2).reshape(-1, self.in_channels)
        patches = (pixels @ self.weight.reshape(self.in_channels, -1)).view(len(input), -1, self.weight[0].numel())
        output = F.fold(patches.transpose(1, 2), size, self.kernel_size, self.dilation, self.padding, self.stride)
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1)


_BY_MATRIX: dict[type, type] = {nn.Conv2d: _Conv2d, nn.ConvTranspose2d: _ConvTranspose2d}


def _takes_product(layer: Layer, images: Tensor, smaller: Sequence[int]) -> bool:
    """Whether ``images`` are what ``layer`` takes, and small, with a map of the size ``smaller`` on the small side."""
    if images.ndim != 4 or images.shape[1] != layer.in_channels or min(smaller) < 1:
        return False  # torch says what is wrong
    if images.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return 0 < len(images) * math.prod(smaller) <= MOST_POSITIONS and images.dtype == layer.weight.dtype


def _side(layer: nn.Conv2d, images: Tensor, axis: int) -> int:
    kernel, stride, padding, dilation = _of_axis(layer, axis)
    side = images.shape[axis] if axis < images.ndim else 0
    return (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _enlarged(layer: nn.ConvTranspose2d, images: Tensor, axis: int) -> int:
    kernel, stride, padding, dilation = _of_axis(layer, axis)
    side = images.shape[axis] if axis < images.ndim else 0
    return (side - 1) * stride - 2 * padding + dilation * (kernel - 1) + layer.output_padding[axis - 2] + 1


def _of_axis(layer: Layer, axis: int) -> tuple[int, int, int, int]:
    assert not isinstance(layer.padding, str)
    found = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    kernel, stride, padding, dilation = (each[axis - 2] for each in found)
    return kernel, stride, padding, dilation
