"""Projected GAN's discriminator: small heads on mixed features of a frozen network (Sauer et al. 2021)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from p2pkit.builtin.timm_networks import Arguments, Backbone, FrozenFeatures
from p2pkit.networks.layers import hold_spectral_norms

WIDEST = 8


class Projected(nn.Module):
    """A frozen network's features of the image, mixed at random across channels and scales, and a head on each scale.

    The mixing (section 3.2) is drawn once: 1x1 convolutions across channels, then from the coarsest scale to the finest
    a 3x3 convolution and bilinear upsampling. It is saved with the weights. Heads are spectrally normalised, and give
    logits of one size; they have no batch norm, which the paper's have, since batches here may be single images.

    The source does not go through the frozen network, which knows photographs and may make nothing of label maps,
    edges or other channels. Strided convolutions of its own, trained with the heads, resize it to each scale, where the
    head sees it beside the features.

    Args:
        backbone: the name of the network; the paper's is the default.
        pretrained: take its published weights, from the Hugging Face cache or the network; without it they are random.
        weights: take the weights in this file instead (.safetensors, or a state dict of PyTorch).
        scales: how many of the network's feature maps get a head, the coarsest ones.
        width: channels of the mixed features and the head at the finest scale; they double from scale to scale.
        conditional: see the image beside its source, or by itself.
        timm: further arguments of the network, for timm.create_model.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        backbone: Backbone = "tf_efficientnet_lite0",
        pretrained: bool = True,
        weights: Path | None = None,
        scales: Annotated[int, Field(ge=1)] = 4,
        width: Annotated[int, Field(gt=0)] = 64,
        conditional: bool = True,
        timm: Arguments | None = None,
    ) -> None:
        super().__init__()
        self.features = FrozenFeatures(backbone, target_channels, pretrained, weights, timm)
        self.scales = min(scales, len(self.features.channels))
        channels, reductions = self.features.channels[-self.scales :], self.features.reductions[-self.scales :]
        widths = [width * min(2**scale, WIDEST) for scale in range(self.scales)]
        self.mixing = _Mixing(channels, widths)
        self.source = _SourcePath(source_channels, reductions, width) if conditional else None
        beside = width if conditional else 0
        self.heads = nn.ModuleList(
            _head(own + beside, own, halvings=self.scales - 1 - scale) for scale, own in enumerate(widths)
        )
        for trained in (self.source, self.heads):
            if trained is not None:
                hold_spectral_norms(trained)

    def forward(self, source: Tensor, image: Tensor) -> list[Tensor]:
        """A map of logits [N, 1, h, w] for each scale, of ``image`` [N, Ct, H, W] beside ``source`` [N, Cs, H, W]."""
        mixed = self.mixing(self.features(image)[-self.scales :])
        if self.source is not None:
            beside = self.source(source, [one.shape[2:] for one in mixed])
            mixed = [torch.cat(pair, dim=1) for pair in zip(mixed, beside, strict=True)]
        return [head(one) for head, one in zip(self.heads, mixed, strict=True)]


class _Mixing(nn.Module):
    """Fixed random convolutions across channels, then across scales."""

    def __init__(self, channels: list[int], widths: list[int]) -> None:
        super().__init__()
        for scale, (found, wanted) in enumerate(zip(channels, widths, strict=True)):
            self._draw(f"across_channels_{scale}", wanted, found, 1)
        for scale, (wanted, coarser) in enumerate(pairwise(widths)):
            self._draw(f"across_scales_{scale}", wanted, coarser, 3)

    def _draw(self, name: str, wanted: int, found: int, side: int) -> None:
        self.register_buffer(name, nn.init.kaiming_normal_(torch.empty(wanted, found, side, side)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        mixed: list[Tensor] = []
        for scale in reversed(range(len(maps))):
            values = F.conv2d(maps[scale], self.get_buffer(f"across_channels_{scale}"))
            if mixed:
                coarser = F.interpolate(mixed[0], size=values.shape[2:], mode="bilinear", align_corners=False)
                values = values + F.conv2d(coarser, self.get_buffer(f"across_scales_{scale}"), padding=1)
            mixed.insert(0, values)
        return mixed


class _SourcePath(nn.Module):
    """Halves the source until it is as small as the features, and gives it at each of their scales."""

    def __init__(self, source_channels: int, reductions: list[int], width: int) -> None:
        super().__init__()
        self.halvings = [max(1, reduction.bit_length() - 1) for reduction in reductions]
        blocks = []
        for _ in range(max(self.halvings)):
            blocks.append(nn.Sequential(_halving(source_channels, width), nn.LeakyReLU(0.2)))
            source_channels = width
        self.blocks = nn.ModuleList(blocks)

    def forward(self, source: Tensor, sizes: list[torch.Size]) -> list[Tensor]:
        passed = [source]
        for block in self.blocks:
            passed.append(block(passed[-1]))
        chosen = (passed[halvings] for halvings in self.halvings)
        return [
            F.interpolate(one, size=size, mode="bilinear", align_corners=False) if one.shape[2:] != size else one
            for one, size in zip(chosen, sizes, strict=True)
        ]


def _halving(channels_in: int, channels: int) -> nn.Conv2d:
    # 3x3, which rounds sizes up as most networks do, so that even one pixel is left one
    return nn.Conv2d(channels_in, channels, 3, 2, 1)


def _head(channels_in: int, width: int, halvings: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(halvings):
        layers += [_halving(channels_in, width), nn.LeakyReLU(0.2)]
        channels_in = width
    layers += [nn.Conv2d(channels_in, width, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 3, 1, 1)]
    return nn.Sequential(*layers)
