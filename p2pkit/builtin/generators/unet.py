"""U-Net and encoder-decoder (Isola et al. 2017, sections 3.2.1 and 6.1.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.errors import RecipeError
from p2pkit.networks.layers import (
    HAS_BIAS,
    Norm,
    Upsampling,
    enlarging_end,
    initialise,
    norm_layer,
    output_layers,
    upsample,
)
from p2pkit.networks.reference import Shapes, norm_in

WIDEST = 8
"""Blocks grow to this many times the width (64 to 512 in the paper)."""
DEEPEST = 8
"""The depth of the paper's network, which a run takes where it can."""


class UNet(nn.Module):
    """The paper's U-Net: ``depth`` strided 4x4 convolutions down, as many up, and skips between mirrored blocks.

    Depth 8 at width 64 is the paper's network for 256x256 (54.41 M parameters for 3 to 3 channels), depth 7 the one
    for 128x128. It takes heights and widths that are multiples of 2^depth. A run whose recipe has no depth takes the
    largest up to 8 that goes with its crop.
    For targets of a multiple of the size, its last features and the source are resized and convolved to that size.

    Args:
        depth: halvings on the way down; in a run that does not set it as many as its crop allows, up to 8.
        width: channels of the first block; blocks double them up to eight times that.
        skips: concatenate each encoder block's output to its mirror's input; without them it is the encoder-decoder
            that the paper compares with (section 4.3).
        norm: normalisation; there is none on the first block and none on the innermost, where one pixel is left.
        dropout: probability on the decoder blocks of ``dropout_blocks``, the generator's noise.
        dropout_blocks: which decoder blocks have dropout, counted from the innermost, which is 1; the paper's first
            three. The PyTorch reference's have it outside of the innermost: [2, 3, 4] at depth 8, [2, 3] at depth 7.
        upsampling: "transposed" convolutions as in the paper, or nearest-neighbour "resize" and a 3x3 convolution,
            which leave no checkerboard.
        bias: whether convolutions have a bias, the last always does. Unless set, those before instance norm or no norm
            do, but for the outermost and the innermost on the way down; the PyTorch reference's is true with instance
            norm and false without a norm.
    """

    reference_size = 256
    """The side to which the PyTorch reference resizes images unless it is told otherwise."""

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        depth: Annotated[int, Field(ge=2, le=12)] = 8,
        width: Annotated[int, Field(gt=0)] = 64,
        skips: bool = True,
        norm: Norm = "batch",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        dropout_blocks: Sequence[Annotated[int, Field(ge=1)]] = (1, 2, 3),
        upsampling: Upsampling = "transposed",
        bias: bool | None = None,
        scale: int = 1,
    ) -> None:
        super().__init__()
        has_bias = HAS_BIAS[norm] if bias is None else bias
        if max(dropout_blocks, default=0) > max(depth - 1, 3):
            raise RecipeError(
                f"generator: dropout_blocks = {list(dropout_blocks)}, and depth {depth} has {depth - 1} decoder blocks "
                "that may have dropout, of which the innermost is 1"
            )
        self.size_multiple = self.smallest_size = 2**depth
        self.skips = skips
        widths: list[int] = []
        for level in range(depth):
            widths.append(width * min(2**level, WIDEST))
        encoders, decoders, channels = list[nn.Module](), list[nn.Module](), source_channels
        for level, wider in enumerate(widths):
            normalised = 0 < level < depth - 1
            convolution = nn.Conv2d(channels, wider, 4, 2, 1, bias=has_bias and (normalised or bias is True))
            layers = [nn.LeakyReLU(0.2), convolution] if level else [convolution]
            encoders.append(nn.Sequential(*layers, *([norm_layer(norm, wider)] if normalised else [])))
            channels = wider
        for level in range(depth - 1, 0, -1):
            from_below = widths[level] * (2 if skips and level < depth - 1 else 1)
            layers = [nn.ReLU(), *upsample(from_below, widths[level - 1], upsampling, has_bias)]
            layers.append(norm_layer(norm, widths[level - 1]))
            if dropout and depth - level in dropout_blocks:
                layers.append(nn.Dropout(dropout))
            decoders.append(nn.Sequential(*layers))
        from_below = widths[0] * (2 if skips else 1)
        self.end: nn.Module | None = None
        if scale == 1:
            decoders.append(output_layers(from_below, width, target_channels, upsampling))
        else:
            decoders.append(nn.Sequential(nn.ReLU(), *upsample(from_below, width, upsampling, bias=True), nn.ReLU()))
            self.end = enlarging_end(width + source_channels, width, target_channels, scale)
        self.encoders, self.decoders = nn.ModuleList(encoders), nn.ModuleList(decoders)
        initialise(self)

    @staticmethod
    def defaults_for(size: tuple[int, int]) -> dict[str, int]:
        """The depth for training images of ``size``, (height, width): the largest up to 8 of whose 2^depth both are
        multiples. Empty where it would be below 4, or small images would not be halved as often as they can be: then
        the network would see little of an image at once.
        """
        common = gcd(*size)
        found = min(DEEPEST, (common & -common).bit_length() - 1)
        return {"depth": found} if found >= max(2, min(4, min(size).bit_length() - 1)) else {}

    @staticmethod
    def from_reference(shapes: Shapes) -> dict[str, Any] | None:
        """The parameters of the PyTorch reference's U-Net with tensors of these ``shapes``; None for other networks.

        Dropout is not among them: its layers have no tensors, and are in no other's way. Up to depth 5 there is none.
        """
        outermost = "model.model"
        first, last = shapes.get(f"{outermost}.0.weight", ()), shapes.get(f"{outermost}.3.weight", ())
        depth, block = 1, f"{outermost}.1.model"
        while f"{block}.1.weight" in shapes:
            depth, block = depth + 1, f"{block}.3.model"
        if len(first) != 4 or len(last) != 4 or depth < 3:
            return None
        norm, blocks = norm_in(shapes, f"{outermost}.1.model.1", f"{outermost}.1.model.2"), list(range(2, depth - 3))
        return {
            "source_channels": first[1], "target_channels": last[1], "depth": depth, "width": first[0],
            "norm": norm, "bias": norm == "instance", "dropout_blocks": blocks, **({} if blocks else {"dropout": 0.0}),
        }  # fmt: skip

    def reference_layers(self) -> Mapping[str, str]:
        """What the PyTorch reference calls the layers that have tensors, each within the block outside of it."""
        depth, block = len(self.encoders), "model.model.1.model"
        layers = {"encoders.0.0": "model.model.0", f"decoders.{depth - 1}.1": "model.model.3"}
        for level in range(1, depth):
            up = 3 if level == depth - 1 else 5
            layers |= {f"encoders.{level}.{place}": f"{block}.{place}" for place in (1, 2)}
            layers |= {f"decoders.{depth - 1 - level}.{place}": f"{block}.{up + place - 1}" for place in (1, 2)}
            block += ".3.model"
        return layers

    def forward(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1] to target [N, Ct, scale * H, scale * W] in [-1, 1].

        H and W are multiples of 2^depth.
        """
        passed = []
        values = source
        for encoder in self.encoders:
            values = encoder(values)
            passed.append(values)
        passed.pop()
        for decoder in self.decoders:
            values = decoder(values)
            if self.skips and passed:
                values = torch.cat([passed.pop(), values], dim=1)
        return values if self.end is None else self.end(torch.cat([values, source], dim=1))
