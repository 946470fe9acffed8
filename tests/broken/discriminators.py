"""Discriminators that break their contract."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from p2pkit.contracts import DiscriminatorOutput
from p2pkit.testing import discriminators
from tests.broken import Broken


class Good(nn.Module):
    """A discriminator as it should be."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(source_channels + target_channels, 4, 4, 2, 1)
        self.outer = nn.Conv2d(4, 1, 4, 1, 1)

    def forward(self, source: Tensor, image: Tensor) -> Any:
        return self.logits(self.inner(torch.cat([source, image], dim=1)).relu())

    def logits(self, values: Tensor) -> Any:
        return self.outer(values)


class WithoutParameters(nn.Module):
    """A discriminator with nothing to train."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return image.mean(dim=1, keepdim=True)


class OneNumber(Good):
    """A discriminator with one logit an image, in a vector."""

    def logits(self, values: Tensor) -> Tensor:
        return self.outer(values).mean(dim=(1, 2, 3))


class Tuple(Good):
    """A discriminator that answers with a tuple."""

    def logits(self, values: Tensor) -> Any:
        return (self.outer(values),)


class NoLogits(Good):
    """A discriminator without any scale."""

    def logits(self, values: Tensor) -> Any:
        return []


class NotFinite(Good):
    """A discriminator of logarithms of negative numbers."""

    def logits(self, values: Tensor) -> Tensor:
        return torch.log(-self.outer(values).square())


class EvenOnly(Good):
    """A discriminator that cannot look at odd sizes."""

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return super().forward(source, nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(image, 2), 2))


class KeepsFeatures(Good):
    """A discriminator that declares features and gives none."""

    has_features = True

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> Any:
        return super().forward(source, image)


class EmptyFeatures(Good):
    """A discriminator whose features are an empty list."""

    has_features = True

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> Any:
        logits = super().forward(source, image)
        return DiscriminatorOutput([logits], []) if features else logits


class TwoMinds(Good):
    """A discriminator with other logits when it is asked for features."""

    has_features = True

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> Any:
        logits = super().forward(source, image)
        return DiscriminatorOutput([logits + 1], [logits]) if features else logits


class Unused(Good):
    """A discriminator with a layer that it never calls."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.forgotten = nn.Conv2d(4, 4, 1)


class DetachesImages(Good):
    """A discriminator that no generator could learn from."""

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return super().forward(source, image.detach())


class FlatForImages(Good):
    """A discriminator whose gradient at images is zero."""

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return super().forward(source, image * 0)


class Thaws(Good):
    """A discriminator that cannot be frozen."""

    def logits(self, values: Tensor) -> Tensor:
        self.requires_grad_(True)
        return self.outer(values)


class OwnNoise(Good):
    """A discriminator with noise that no seed governs."""

    def logits(self, values: Tensor) -> Tensor:
        rng = torch.Generator()
        rng.seed()
        return self.outer(values * torch.rand(values.shape, generator=rng))


class HiddenWeight(Good):
    """A discriminator with a random tensor that is neither a parameter nor a buffer."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(source_channels, target_channels)
        self.scale = torch.rand(4, 1, 1)

    def logits(self, values: Tensor) -> Tensor:
        return self.outer(values * self.scale)


class ThreeOfTheSource(Good):
    """A discriminator that was made for the first three channels of the source."""

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return super().forward(source[:, :3], image)


class LooksAtValues(Good):
    """A discriminator that asks for values as it goes."""

    def logits(self, values: Tensor) -> Tensor:
        return self.outer(values if float(values.detach().mean()) < 100 else values / 2)


BROKEN = [
    Broken("discriminators", check, factory, found)
    for check, factory, found in (
        (discriminators.is_trainable, WithoutParameters, "no parameter that requires a gradient"),
        (discriminators.gives_logits, OneNumber, "logits [2]"),
        (discriminators.gives_logits, Tuple, "tuple instead of a tensor, a list or a DiscriminatorOutput"),
        (discriminators.gives_logits, NoLogits, "no list of logits"),
        (discriminators.gives_logits, NotFinite, "logits that are not finite"),
        (discriminators.gives_logits, EvenOnly, "divisible"),
        (discriminators.gives_features, KeepsFeatures, "Tensor instead of a DiscriminatorOutput"),
        (discriminators.gives_features, EmptyFeatures, "no features"),
        (discriminators.gives_features, TwoMinds, "other logits with features than without"),
        (discriminators.learns, Unused, "forgotten.weight has no gradient"),
        (discriminators.can_be_frozen, DetachesImages, "no gradient reaches the image"),
        (discriminators.can_be_frozen, FlatForImages, "no gradient reaches the image"),
        (discriminators.can_be_frozen, Thaws, "gradients accumulated by outer.weight, outer.bias"),
        (discriminators.follows_the_seed, OwnNoise, "logits are not"),
        (discriminators.can_be_saved, HiddenWeight, "neither a parameter nor a buffer"),
        (discriminators.takes_two_sources, ThreeOfTheSource, "channels"),
        (discriminators.can_be_tried, LooksAtValues, "meta"),
    )
]
