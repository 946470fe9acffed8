"""A U-Net whose encoder is a network of timm (as in Iglovikov and Shvets 2018, TernausNet)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from p2pkit.builtin.timm_networks import Arguments, Backbone, FeatureNetwork
from p2pkit.errors import RecipeError
from p2pkit.networks.layers import HAS_BIAS, Norm, enlarging_end, initialise, norm_layer

WIDEST = 8
"""Decoder blocks grow to this many times the width."""
DROPOUT_BLOCKS = 3


class TimmUNet(nn.Module):
    """A timm network down, one doubling with a 3x3 convolution a halving up, and a skip wherever it has features.

    It takes heights and widths that are multiples of the network's largest reduction (32 for most), from twice that on.
    For targets of a multiple of the size, its last features and the source are resized and convolved to that size.

    Args:
        backbone: the name of the network, such as "resnet34" or "convnext_tiny.fb_in22k"; one that gives features.
        pretrained: begin with its published weights, from the Hugging Face cache or the network.
        weights: begin with the weights in this file instead (.safetensors, or a state dict of PyTorch).
        width: channels of the last decoder block; those before double them up to eight times that.
        norm: normalisation of the decoder; the network down has its own.
        dropout: probability on the first three decoder blocks, the generator's noise.
        timm: further arguments of the network, for timm.create_model.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        backbone: Backbone = "resnet34",
        pretrained: bool = False,
        weights: Path | None = None,
        width: Annotated[int, Field(gt=0)] = 32,
        norm: Norm = "batch",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        timm: Arguments | None = None,
        weights_follow: bool = False,
        scale: int = 1,
    ) -> None:
        super().__init__()
        if weights_follow:
            pretrained, weights = False, None
        self.encoder = FeatureNetwork(backbone, source_channels, pretrained, weights, timm)
        self.encoder.rest_what_is_unused()
        deepest = max(self.encoder.reductions)
        if any(reduction & (reduction - 1) for reduction in self.encoder.reductions):
            raise RecipeError(f"{backbone!r} divides sizes by {self.encoder.reductions}; expected powers of two")
        self.size_multiple, self.smallest_size = deepest, 2 * deepest
        self.steps = [deepest >> halvings for halvings in range(1, deepest.bit_length())]
        """The reductions on the way up, from half the largest to 1."""
        passed = dict.fromkeys([deepest, *self.steps], 0)
        for reduction, channels in zip(self.encoder.reductions, self.encoder.channels, strict=True):
            passed[reduction] += channels
        blocks, channels = [], passed[deepest]
        for number, reduction in enumerate(self.steps):
            wider = width * min(reduction, WIDEST)
            noise = dropout if number < DROPOUT_BLOCKS else 0.0
            blocks.append(_block(channels + passed[reduction], wider, norm, noise))
            channels = wider
        self.decoders = nn.ModuleList(blocks)
        self.scale = scale
        if scale == 1:
            self.output = nn.Sequential(nn.Conv2d(channels, target_channels, 3, 1, 1), nn.Tanh())
        else:
            self.output = enlarging_end(channels + source_channels, channels, target_channels, scale)
        initialise(self.decoders)
        initialise(self.output)

    def forward(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1] to target [N, Ct, scale * H, scale * W] in [-1, 1].

        H and W are multiples of ``size_multiple``.
        """
        passed: dict[int, list[Tensor]] = {}
        for reduction, features in zip(self.encoder.reductions, self.encoder(source), strict=True):
            passed.setdefault(reduction, []).append(features)
        values = torch.cat(passed[self.size_multiple], dim=1)
        for reduction, decoder in zip(self.steps, self.decoders, strict=True):
            skips = passed.get(reduction, [])
            # some networks round sizes their own way
            size = skips[0].shape[2:] if skips else [side // reduction for side in source.shape[2:]]
            values = decoder(torch.cat([F.interpolate(values, size=size, mode="nearest"), *skips], dim=1))
        output: Tensor = self.output(values if self.scale == 1 else torch.cat([values, source], dim=1))
        return output


def _block(channels_in: int, channels: int, norm: Norm, dropout: float) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, 3, 1, 1, bias=HAS_BIAS[norm])
    layers = [convolution, norm_layer(norm, channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers)
