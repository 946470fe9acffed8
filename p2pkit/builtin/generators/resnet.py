"""The ResNet generator of Johnson et al. 2016, as image-to-image translation uses it: c7s1-64, d128, d256, R256 ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.networks.layers import HAS_BIAS, Norm, enlarging_end, initialise, norm_layer
from p2pkit.networks.reference import Shapes, norm_in

HALVINGS = 2
FIRST_BLOCK = 4 + 3 * HALVINGS
"""The place of the first residual block among the layers."""


class ResNet(nn.Module):
    """Two halvings, ``blocks`` residual blocks, two doublings. It takes heights and widths that are multiples of 4.

    Nine blocks are usual for 256x256 and more, six for 128x128 (Zhu et al. 2017, appendix 7.2). For targets of a
    multiple of the size, its last features and the source are resized and convolved to that size.

    Args:
        blocks: residual blocks.
        width: channels of the first layer; the residual blocks have four times as many.
        norm: normalisation.
        dropout: probability inside the residual blocks, the generator's noise.
        bias: whether convolutions before a norm have a bias; unless set, all but those before batch norm. The PyTorch
            reference's is false without a norm.
    """

    reference_size = 256
    """The side to which the PyTorch reference resizes images unless it is told otherwise."""

    size_multiple = 2**HALVINGS
    smallest_size = 2 * size_multiple  # the residual blocks reflect one pixel, so two must be left

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        blocks: Annotated[int, Field(ge=1)] = 9,
        width: Annotated[int, Field(gt=0)] = 64,
        norm: Norm = "batch",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        bias: bool | None = None,
        scale: int = 1,
    ) -> None:
        super().__init__()
        bias = HAS_BIAS[norm] if bias is None else bias
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(source_channels, width, 7, bias=bias), *_activated(norm, width)]
        for _ in range(HALVINGS):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=bias), *_activated(norm, 2 * width)]
            width *= 2
        layers += [_ResidualBlock(width, norm, dropout, bias) for _ in range(blocks)]
        for _ in range(HALVINGS):
            up = nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1, bias=bias)
            layers += [up, *_activated(norm, width // 2)]
            width //= 2
        self.end: nn.Module | None = None
        if scale == 1:
            layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, target_channels, 7), nn.Tanh()]
        else:
            self.end = enlarging_end(width + source_channels, width, target_channels, scale)
        self.layers = nn.Sequential(*layers)
        initialise(self)

    @staticmethod
    def from_reference(shapes: Shapes) -> dict[str, Any] | None:
        """The parameters of the PyTorch reference's ResNet with tensors of these ``shapes``; None for other networks.

        Its dropout is 0.5 wherever it has one, by which the second convolution of a block is the seventh layer.
        """
        blocks = 0
        while f"model.{FIRST_BLOCK + blocks}.conv_block.1.weight" in shapes:
            blocks += 1
        first = shapes.get("model.1.weight", ())
        last = shapes.get(f"model.{FIRST_BLOCK + blocks + 3 * HALVINGS + 1}.weight", ())
        if not blocks or len(first) != 4 or len(last) != 4:
            return None
        norm = norm_in(shapes, "model.1", "model.2")
        dropout = 0.0 if f"model.{FIRST_BLOCK}.conv_block.5.weight" in shapes else 0.5
        return {
            "source_channels": first[1], "target_channels": last[0], "blocks": blocks, "width": first[0],
            "dropout": dropout, "norm": norm, "bias": norm == "instance",
        }  # fmt: skip

    def reference_layers(self) -> Mapping[str, str]:
        """What the PyTorch reference calls the layers that have tensors; they have the same places there."""
        names = (name for name, _ in self.layers.named_modules())
        return {f"layers.{name}": f"model.{name.replace('layers', 'conv_block')}" for name in names}

    def forward(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1] to target [N, Ct, scale * H, scale * W] in [-1, 1].

        H and W are multiples of 4, from 8 on.
        """
        output: Tensor = self.layers(source)
        return output if self.end is None else self.end(torch.cat([output, source], dim=1))


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm: Norm, dropout: float, bias: bool) -> None:
        super().__init__()
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), *_activated(norm, channels)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm_layer(norm, channels)]
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = values + self.layers(values)
        return output


def _activated(norm: Norm, channels: int) -> list[nn.Module]:
    return [norm_layer(norm, channels), nn.ReLU()]
