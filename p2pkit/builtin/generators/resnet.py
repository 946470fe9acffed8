"""The ResNet generator of Johnson et al. 2016, as image-to-image translation uses it: c7s1-64, d128, d256, R256 ..."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.networks.layers import HAS_BIAS, Norm, enlarging_end, initialise, norm_layer

HALVINGS = 2


class ResNet(nn.Module):
    """Two halvings, ``blocks`` residual blocks, two doublings. It takes heights and widths that are multiples of 4.

    Nine blocks are usual for 256x256 and more, six for 128x128 (Zhu et al. 2017, appendix 7.2). For targets of a
    multiple of the size, its last features and the source are resized and convolved to that size.

    Args:
        blocks: residual blocks.
        width: channels of the first layer; the residual blocks have four times as many.
        norm: normalisation.
        dropout: probability inside the residual blocks, the generator's noise.
    """

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
        scale: int = 1,
    ) -> None:
        super().__init__()
        bias = HAS_BIAS[norm]
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(source_channels, width, 7, bias=bias), *_activated(norm, width)]
        for _ in range(HALVINGS):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=bias), *_activated(norm, 2 * width)]
            width *= 2
        layers += [_ResidualBlock(width, norm, dropout) for _ in range(blocks)]
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

    def forward(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1] to target [N, Ct, scale * H, scale * W] in [-1, 1].

        H and W are multiples of 4, from 8 on.
        """
        output: Tensor = self.layers(source)
        return output if self.end is None else self.end(torch.cat([output, source], dim=1))


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        bias = HAS_BIAS[norm]
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
