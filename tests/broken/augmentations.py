"""Augmentations that break one clause of their contract each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as vision

from p2pkit.testing import augmentations
from tests.broken import Broken


class Good:
    """Mirrors both images at random, and makes the source lighter."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        if torch.rand(()) < 0.5:
            source, target = vision.horizontal_flip(source), vision.horizontal_flip(target)
        return source if isinstance(source, tv_tensors.Mask) else source + 0.1, target


class Single(Good):
    """Gives the source alone."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return source


class Gray(Good):
    """Makes one channel of all."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return source[:1], target


class Halved(Good):
    """Makes the target smaller, but not the source."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return source, target[:, ::2, ::2]


class Undefined(Good):
    """Divides by what may be nothing."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return source, target / 0


class Counting(Good):
    """Does something else each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        self.calls += 1
        return source, target / self.calls


class InPlace(Good):
    """Changes the target that it is given."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return source, target.mul_(0.9)


class Blurred(Good):
    """Blurs label maps too."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return vision.gaussian_blur(source.as_subclass(Tensor), [5, 5]), target


class OneSided(Good):
    """Mirrors the source and not the target."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return vision.horizontal_flip(source), target


class Colourist(Good):
    """Takes three channels alone, and does not say so."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return vision.adjust_saturation(source, 0.5), target


BROKEN = [
    Broken("augmentations", check, factory, found)
    for check, factory, found in (
        (augmentations.gives_two_images, Single, "Image of two images"),
        (augmentations.gives_two_images, Gray, "[1, 48, 48] of torch.float32, of [3, 48, 48]"),
        (augmentations.gives_two_images, Halved, "a source of [48, 48] and a target of [24, 24]"),
        (augmentations.gives_two_images, Undefined, "NaN or infinite"),
        (augmentations.gives_two_images, Colourist, "TypeError"),
        (augmentations.follows_the_seed, Counting, "called again"),
        (augmentations.changes_nothing, InPlace, "in place"),
        (augmentations.keeps_labels, Blurred, "values that were not in the label map"),
        (augmentations.moves_both_alike, OneSided, "with a correlation of 0."),
    )
]
