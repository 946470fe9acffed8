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
    """Mirrors all images at random, and makes sources lighter."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Any:
        mirrored = bool(torch.rand(()) < 0.5)
        if isinstance(source, dict):
            source = {name: self.lighter(self.turned(image, mirrored)) for name, image in source.items()}
        else:
            source = self.lighter(self.turned(source, mirrored))
        return source, *(self.turned(image, mirrored) for image in (target, *mask))

    def turned(self, image: Tensor, mirrored: bool) -> Tensor:
        return vision.horizontal_flip(image) if mirrored else image

    def lighter(self, image: Tensor) -> Tensor:
        return image if isinstance(image, tv_tensors.Mask) else image + 0.1


class OfTwoImages:
    """Takes one source without a mask, and refuses more: Python does so by itself."""

    def __call__(self, source: Tensor, target: Tensor) -> Any:
        return vision.horizontal_flip(source), vision.horizontal_flip(target)


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


class KeepsTheMask(Good):
    """Gives no mask back."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Any:
        return super().__call__(source, target)


class MaskStays(Good):
    """Mirrors all but the mask."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Any:
        return *super().__call__(source, target), *mask


class NegativeWeights(Good):
    """Gives masks of which one half weighs less than nothing."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Any:
        return *super().__call__(source, target, *mask)[:2], *(2 * weights - 1 for weights in mask)


class OneOfSeveral(Good):
    """Gives the first of several sources."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Any:
        return super().__call__(next(iter(source.values())) if isinstance(source, dict) else source, target, *mask)


class EachByItself(Good):
    """Mirrors the label map of several sources alone."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Any:
        if isinstance(source, dict):
            source = {**source, "labels": vision.horizontal_flip(source["labels"])}
        return source, target, *mask


class KnowsOneName(Good):
    """Looks for a source of a certain name."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Any:
        return super().__call__(source["depth"] if isinstance(source, dict) else source, target, *mask)


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
        (augmentations.takes_several_sources_and_masks, KeepsTheMask, "tuple of source, target, mask"),
        (augmentations.takes_several_sources_and_masks, MaskStays, "a mask and the target that it was made of"),
        (augmentations.takes_several_sources_and_masks, NegativeWeights, "weights from -1 to 1"),
        (augmentations.takes_several_sources_and_masks, OneOfSeveral, "Tensor of the sources ['picture', 'labels']"),
        (augmentations.takes_several_sources_and_masks, EachByItself, "one of several sources, a label map, and"),
        (augmentations.takes_several_sources_and_masks, KnowsOneName, "KeyError: 'depth'"),
    )
]
