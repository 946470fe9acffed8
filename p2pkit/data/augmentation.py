"""Training samples: resized, augmented, cropped and flipped at random; validation only resizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as vision

from p2pkit import contracts
from p2pkit.contracts import Resampling
from p2pkit.errors import DataError, RecipeError, in_one_line
from p2pkit.settings import TransformSettings, height_width
from p2pkit.utils.seeds import derived, seeded

TensorPair = tuple[Tensor, Tensor]
PURPOSE = "jitter"
"""What crops and flips are derived for; another text would be other ones for the same seed."""
JITTER = 0.75
"""Crops of no less than this share of what they are cut from show things at the scale of the whole (the paper: 256 of
286)."""
SAME_ASPECT = 0.02
"""By so much two aspect ratios may differ, as a share, and still be one."""
_BICUBIC = vision.InterpolationMode.BICUBIC


class Sizes(NamedTuple):
    """The (height, width) that images of some size are resized to in training, of their crops, and of test images."""

    loaded: tuple[int, int]
    crop: tuple[int, int]
    test: tuple[int, int]


class NamedAugmentation(NamedTuple):
    """An augmentation, and what messages call it."""

    origin: str
    augment: contracts.Augmentation


@dataclass(frozen=True)
class Augmentation:
    """Resizes, augments, crops and flips the two images of a sample alike; sources may have a resampling of their own.

    What is drawn for a sample is a function of the seed and of ``draw``, its epoch and index: it depends neither on how
    many workers or processes there are nor on where a run was interrupted.
    """

    settings: TransformSettings
    seed: int
    source_resampling: Resampling = "bicubic"
    augmentations: Sequence[NamedAugmentation] = ()
    """The recipe's, in its order."""

    def train(self, pair: TensorPair, draw: Sequence[int | str], key: str) -> TensorPair:
        """Resize to the load size, augment, crop at random, flip at random. Tensors [C, H, W] in [-1, 1].

        Raises:
            DataError: the image, called ``key``, is smaller than the crop.
            RecipeError: an augmentation fails, or gives other than two images of one size.
        """
        size = pair[0].shape[1], pair[0].shape[2]
        self.refuse_smaller_than_crop(size, key)
        loaded, crop, _ = self.sizes(size)
        source, target = resize(pair[0], loaded, self.source_resampling), resize(pair[1], loaded)
        if self.augmentations:
            source, target = self._augmented((source, target), draw, key)
        generator = torch.Generator().manual_seed(derived(self.seed, PURPOSE, *draw))
        down, right, mirror = torch.rand(3, generator=generator).tolist()
        if self.settings.crop_size is not None:
            # all positions are equally likely
            top, left = int(down * (source.shape[1] - crop[0] + 1)), int(right * (source.shape[2] - crop[1] + 1))
            place = (slice(None), slice(top, top + crop[0]), slice(left, left + crop[1]))
            source, target = source[place], target[place]
        if self.settings.flip and mirror < 0.5:
            return vision.horizontal_flip(source), vision.horizontal_flip(target)
        return source, target

    def test(self, pair: TensorPair) -> TensorPair:
        """Resize to the size for tests (see :meth:`sizes`), at which things look as in training.

        Tensors [C, H, W] in [-1, 1].
        """
        size = self.sizes((pair[0].shape[1], pair[0].shape[2])).test
        return resize(pair[0], size, self.source_resampling), resize(pair[1], size)

    def sizes(self, size: tuple[int, int]) -> Sizes:
        """What images of ``size``, (height, width), are resized to in training and for tests, and cropped to.

        Test images are resized as training images are: not at all, by the factor that keeps the aspect, or to the load
        size; but to the crop size where the crop is the paper's jitter, nearly all of the image in its aspect (Isola
        et al. 2017, section 6.2: trained on crops of 256 from 286, tested at 256).
        """
        loaded = size if self.settings.load_size is None else height_width(self.settings.load_size)
        if self.settings.keep_aspect:
            factor = max(loaded[0] / size[0], loaded[1] / size[1])
            loaded = max(loaded[0], round(factor * size[0])), max(loaded[1], round(factor * size[1]))
        if self.settings.crop_size is None:
            return Sizes(loaded, loaded, loaded)
        crop = height_width(self.settings.crop_size)
        down, across = crop[0] / loaded[0], crop[1] / loaded[1]
        jitter = min(down, across) >= JITTER and abs(down / across - 1) <= SAME_ASPECT
        at_crop = jitter and self.settings.load_size is not None and not self.settings.keep_aspect
        return Sizes(loaded, crop, crop if at_crop else loaded)

    def refuse_smaller_than_crop(self, size: tuple[int, int], key: str) -> None:
        """Raise DataError, beginning with ``key``, when nothing can be cropped out of images of (height, width)."""
        loaded, crop, _ = self.sizes(size)
        if loaded[0] < crop[0] or loaded[1] < crop[1]:
            raise DataError(
                f"{key}: the image is {loaded[0]}x{loaded[1]} (height x width), smaller than transform.crop_size "
                f"{crop[0]}x{crop[1]}; lower it, or set transform.load_size"
            )

    def _augmented(self, pair: TensorPair, draw: Sequence[int | str], key: str) -> TensorPair:
        """What the recipe's augmentations make of two images in [-1, 1]."""
        source, target = (pair[0] + 1) / 2, (pair[1] + 1) / 2
        wrap_source = tv_tensors.Mask if self.source_resampling == "nearest" else tv_tensors.Image
        for position, (origin, augment) in enumerate(self.augmentations):
            with _one_thread(), seeded(derived(self.seed, "augmentation", position, *draw)):
                try:
                    made: Any = augment(wrap_source(source), tv_tensors.Image(target))
                except Exception as error:
                    raise RecipeError(f"{origin} fails on {key}: {in_one_line(error)}") from error
            if problem := _problem(made, (source, target), height_width(self.settings.crop_size or 1)):
                raise RecipeError(f"{origin} gives {problem}, for {key}")
            source, target = (image.detach().as_subclass(Tensor).float().clamp(0.0, 1.0) for image in made)
        return source * 2 - 1, target * 2 - 1


def resize(image: Tensor, size: tuple[int, int], resampling: Resampling = "bicubic") -> Tensor:
    """An image [C, H, W] in [-1, 1] at ``size``, (height, width); bicubic is antialiased, and clamped to [-1, 1]."""
    if tuple(image.shape[1:]) == size:
        return image
    interpolation = vision.InterpolationMode.NEAREST_EXACT if resampling == "nearest" else _BICUBIC
    resized: Tensor = vision.resize(image, list(size), interpolation=interpolation, antialias=True)
    # bicubic overshoots at edges, and [-1, 1] is the contract
    return resized.clamp_(-1.0, 1.0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread, as a worker does: the last bits of a sum depend on how many threads share it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _problem(made: Any, before: TensorPair, crop: tuple[int, int]) -> str:
    """What is wrong with what an augmentation has made of two images; empty where nothing is."""
    if not isinstance(made, tuple | list) or len(made) != 2 or not all(isinstance(each, Tensor) for each in made):
        return f"{type(made).__name__} where two images, source and target, are expected"
    for side, image, given in zip(("source", "target"), made, before, strict=True):
        if image.ndim != 3 or len(image) != len(given) or not image.is_floating_point():
            return f"a {side} {list(image.shape)} of {image.dtype} where floats [{len(given)}, H, W] are expected"
        if not image.isfinite().all():
            return f"a {side} with values that are NaN or infinite"
    sizes = ["{}x{}".format(*image.shape[1:]) for image in made]
    if sizes[0] != sizes[1]:
        return f"a source of {sizes[0]} and a target of {sizes[1]} (height x width) where one size is expected"
    if made[0].shape[1] < crop[0] or made[0].shape[2] < crop[1]:
        return f"images of {sizes[0]} (height x width), smaller than transform.crop_size {crop[0]}x{crop[1]}"
    return ""
