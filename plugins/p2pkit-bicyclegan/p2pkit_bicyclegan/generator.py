"""A U-Net that takes a latent vector beside its source (Zhu et al. 2017, section 4 and figure 3)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.networks.latent import Latent
from p2pkit.networks.layers import Upsampling, initialise, output_layers, upsample

WIDEST = 8
"""Blocks grow to this many times the width."""
DROPOUT_FROM = 4
"""The outermost level with dropout: from here on in, all blocks are of the greatest width."""


class LatentUNet(nn.Module):
    """pix2pix's U-Net with instance norm, whose encoder blocks see the latent as planes of one value each.

    It takes heights and widths that are multiples of 2^depth; depth 8 is the published network for 256x256, depth 7
    the one for 128x128.

    Args:
        latent_size: values of the latent; it is drawn from N(0, 1), or given.
        latent_at: "all" encoder blocks see it, or the first alone, beside the source: "input".
        depth: halvings on the way down.
        width: channels of the first block; blocks double them up to eight times that.
        dropout: probability on all decoder blocks but the innermost and the four outermost.
        upsampling: "transposed" convolutions, or nearest-neighbour "resize" and a 3x3 convolution, which leave no
            checkerboard.
    """

    channels_last = True

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        latent_size: Annotated[int, Field(gt=0)] = 8,
        latent_at: Literal["all", "input"] = "all",
        depth: Annotated[int, Field(ge=2, le=12)] = 8,
        width: Annotated[int, Field(gt=0)] = 64,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.size_multiple = self.smallest_size = 2**depth
        self.latent, self.everywhere = Latent(latent_size), latent_at == "all"
        widths = [width * min(2**level, WIDEST) for level in range(depth)]
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(widths):
            below = widths[level - 1] if level else source_channels
            planes = latent_size if self.everywhere or level == 0 else 0
            # the innermost may have one pixel left, of which there are no statistics
            self.encoders.append(_encoder(below + planes, channels, first=level == 0, norm=0 < level < depth - 1))
        for level in range(depth - 1, 0, -1):
            from_below = widths[level] * (1 if level == depth - 1 else 2)
            noise = dropout if DROPOUT_FROM <= level < depth - 1 else 0.0
            self.decoders.append(_decoder(from_below, widths[level - 1], noise, upsampling))
        self.decoders.append(output_layers(2 * widths[0], width, target_channels, upsampling))
        initialise(self)

    def forward(self, source: Tensor, latent: Tensor | None = None) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1] to target [N, Ct, H, W] in [-1, 1]; H and W multiples of 2^depth.

        ``latent`` is [N, latent_size]; one is drawn where none is given.
        """
        planes = (self.latent(source) if latent is None else latent)[:, :, None, None]
        values, passed = source, []
        for level, encoder in enumerate(self.encoders):
            if self.everywhere or level == 0:
                values = torch.cat([values, planes.expand(-1, -1, *values.shape[2:])], dim=1)
            values = encoder(values)
            passed.append(values)
        passed.pop()
        for decoder in self.decoders:
            values = decoder(values)
            if passed:
                values = torch.cat([passed.pop(), values], dim=1)
        return values


def _encoder(channels_in: int, channels: int, first: bool, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [] if first else [nn.LeakyReLU(0.2)]
    layers.append(nn.Conv2d(channels_in, channels, 4, 2, 1, bias=not norm))
    if norm:
        layers.append(nn.InstanceNorm2d(channels))
    return nn.Sequential(*layers)


def _decoder(channels_in: int, channels: int, dropout: float, upsampling: Upsampling) -> nn.Sequential:
    layers = [nn.ReLU(), *upsample(channels_in, channels, upsampling, bias=False), nn.InstanceNorm2d(channels)]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
