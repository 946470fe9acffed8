"""Fixtures, small components that others are tested with: discriminators of every form, the parts of a method."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.contracts import DiscriminatorOutput, WeightedLoss
from p2pkit.training.step import AdaptedLoss

WIDTH = 8


class SmallDiscriminator(nn.Module):
    """Two convolutions at each of one or several scales, with features or without."""

    def __init__(self, channels: int, scales: int, has_features: bool) -> None:
        super().__init__()
        self.has_features = has_features
        self.inner = nn.ModuleList(nn.Conv2d(channels, WIDTH, 4, 2, 1) for _ in range(scales))
        self.logits = nn.ModuleList(nn.Conv2d(WIDTH, 1, 4, 1, 1) for _ in range(scales))

    def forward(
        self, source: Tensor, image: Tensor, features: bool = False
    ) -> Tensor | list[Tensor] | DiscriminatorOutput:
        """Logits [N, 1, h, w], a list of them for several scales, or a DiscriminatorOutput with ``features``."""
        values, predicted, passed = torch.cat([source, image], dim=1), [], []
        for inner, logits in zip(self.inner, self.logits, strict=True):
            passed.append(F.leaky_relu(inner(values), 0.2))
            predicted.append(logits(passed[-1]))
            values = F.avg_pool2d(values, 2)
        if features:
            return DiscriminatorOutput(predicted, passed)
        return predicted if len(predicted) > 1 else predicted[0]

    def __str__(self) -> str:
        features = "with" if self.has_features else "without"
        return f"a discriminator of {len(self.inner)} scale(s) {features} features"


def discriminators(channels: int) -> list[SmallDiscriminator]:
    """One discriminator of each form, for a source and an image of ``channels`` in all."""
    return [SmallDiscriminator(channels, scales, features) for scales in (1, 2) for features in (False, True)]


def parts_of_a_method(source_channels: int, target_channels: int, adversarial: bool = True) -> dict[str, Any]:
    """What the assembly supplies to a method, small; losses that need a discriminator only if ``adversarial``."""
    channels = {"source_channels": source_channels, "target_channels": target_channels}

    def make_discriminator() -> nn.Module:
        made: nn.Module = create("discriminators", "patchgan_16", width=WIDTH, **channels)
        return made

    losses = ("lsgan", "l1") if adversarial else ("l1",)
    return {
        "generator": create("generators", "resnet", blocks=1, width=WIDTH, **channels),
        "discriminator": make_discriminator(),
        "make_discriminator": make_discriminator,
        "losses": [WeightedLoss(name, 1.0, AdaptedLoss.of(create("losses", name))) for name in losses],
        **channels,
    }
