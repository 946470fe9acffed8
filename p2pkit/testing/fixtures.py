"""Fixtures that components are tested with: discriminators of every form, the parts of a method, sources, a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.contracts import DiscriminatorOutput, WeightedLoss
from p2pkit.networks.encoding import Encoded, SourceEncoding, SourcePart
from p2pkit.training.step import AdaptedLoss

WIDTH = 8
CLASSES, SOURCE_RANGE = 4, (0.0, 3.0)
"""Of the label map among two sources: how many at most, and the values that it has."""
TWO_SOURCES = 7
"""How many channels two sources are, where nothing else is asked for: a colour picture and a label map."""


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


def two_sources(channels: int) -> Sequence[SourcePart]:
    """A picture and a label map, which are so many ``channels`` (2 or more) once the label map is encoded."""
    classes = min(CLASSES, channels - 1)
    one_hot = create("encodings", "one_hot", classes=classes, source_channels=1, source_range=SOURCE_RANGE)
    return SourcePart("picture", channels - classes), SourcePart("labels", 1, one_hot.resampling, one_hot)


def encoded(network: nn.Module, parts: Sequence[SourcePart], enlarged: bool = False) -> Encoded:
    """A network as the assembly puts it behind several sources; ``enlarged`` to the images of a discriminator."""
    return Encoded(SourceEncoding(parts), network, parts if enlarged else ())


def half_mask(count: int, height: int, width: int) -> Tensor:
    """A mask [N, 1, H, W] that is 0 in the left half, and 1/2 and 1 in the right one."""
    mask = torch.ones(count, 1, height, width)
    mask[:, :, :, : 3 * width // 4] = 0.5
    mask[:, :, :, : width // 2] = 0.0
    return mask


def parts_of_a_method(
    source_channels: int, target_channels: int, adversarial: bool = True, sources: Sequence[SourcePart] = ()
) -> dict[str, Any]:
    """What the assembly supplies to a method, small; losses that need a discriminator only if ``adversarial``.

    ``sources`` are several, of ``source_channels`` together.
    """
    channels = {"source_channels": source_channels, "target_channels": target_channels}
    seen = {**channels, "source_channels": SourceEncoding(sources).channels} if sources else channels

    def made(kind: str, name: str, **parameters: int) -> nn.Module:
        network: nn.Module = create(kind, name, width=WIDTH, **parameters, **seen)
        return encoded(network, sources) if sources else network

    def make_discriminator() -> nn.Module:
        return made("discriminators", "patchgan_16")

    losses = ("lsgan", "l1") if adversarial else ("l1",)
    return {
        "generator": made("generators", "resnet", blocks=1),
        "discriminator": make_discriminator(),
        "make_discriminator": make_discriminator,
        "losses": [WeightedLoss(name, 1.0, AdaptedLoss.of(create("losses", name))) for name in losses],
        **channels,
    }
