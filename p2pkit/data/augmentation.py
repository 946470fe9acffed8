"""Augmentation of training pairs: resize, random crop, random flip (paper section 6.2); validation only resizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from p2pkit.contracts import Resampling
from p2pkit.errors import DataError
from p2pkit.settings import TransformSettings, height_width
from p2pkit.utils.seeds import derived

TensorPair = tuple[Tensor, Tensor]
PURPOSE = "jitter"
"""What its draws are derived for; another text would be another order of crops and flips for the same seed."""
_BICUBIC = vision.InterpolationMode.BICUBIC


@dataclass(frozen=True)
class Augmentation:
    """Resizes, crops and flips the two images of a pair alike; sources may be resampled in a way of their own.

    The augmentation of a pair is a function of (seed, epoch, index), so that it depends neither on how many workers or
    processes there are nor on where a run was interrupted.
    """

    settings: TransformSettings
    seed: int
    source_resampling: Resampling = "bicubic"

    def train(self, pair: TensorPair, epoch: int, index: int, key: str) -> TensorPair:
        """Resize to the load size, crop at random, flip at random. Tensors [C, H, W] in [-1, 1]."""
        height, width = pair[0].shape[1:]
        self.refuse_smaller_than_crop((height, width), key)
        pair = self._resized(pair, self.settings.load_size)
        generator = torch.Generator().manual_seed(derived(self.seed, PURPOSE, epoch, index))
        draws = torch.rand(3, generator=generator).tolist()
        if self.settings.crop_size is not None:
            pair = _cropped(pair, height_width(self.settings.crop_size), draws[0], draws[1])
        if self.settings.flip and draws[2] < 0.5:
            return vision.horizontal_flip(pair[0]), vision.horizontal_flip(pair[1])
        return pair

    def training_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that :meth:`train` makes of images of ``size``."""
        chosen = self.settings.crop_size or self.settings.load_size
        return size if chosen is None else height_width(chosen)

    def refuse_smaller_than_crop(self, size: tuple[int, int], key: str) -> None:
        """Raise DataError, beginning with ``key``, when nothing can be cropped out of images of (height, width)."""
        if self.settings.crop_size is None:
            return
        loaded, crop = height_width(self.settings.load_size or size), height_width(self.settings.crop_size)
        if loaded[0] < crop[0] or loaded[1] < crop[1]:
            raise DataError(
                f"{key}: the image is {loaded[0]}x{loaded[1]} (height x width), smaller than transform.crop_size "
                f"{crop[0]}x{crop[1]}; lower it, or set transform.load_size"
            )

    def test(self, pair: TensorPair) -> TensorPair:
        """Resize to the size that training sees, where training resizes at all; no augmentation."""
        if self.settings.load_size is None:
            return pair
        return self._resized(pair, self.settings.crop_size or self.settings.load_size)

    def _resized(self, pair: TensorPair, size: int | tuple[int, int] | None) -> TensorPair:
        if size is None:
            return pair
        source, target = pair
        return _resize(source, height_width(size), self.source_resampling), _resize(target, height_width(size))


def _resize(image: Tensor, size: tuple[int, int], resampling: Resampling = "bicubic") -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    interpolation = vision.InterpolationMode.NEAREST_EXACT if resampling == "nearest" else _BICUBIC
    resized: Tensor = vision.resize(image, list(size), interpolation=interpolation, antialias=True)
    # bicubic overshoots at edges, and [-1, 1] is the contract
    return resized.clamp_(-1.0, 1.0)


def _cropped(pair: TensorPair, size: tuple[int, int], down: float, right: float) -> TensorPair:
    """Crop both images at one place; ``down`` and ``right`` in [0, 1) choose among all positions evenly."""
    height, width = pair[0].shape[1:]
    top, left = int(down * (height - size[0] + 1)), int(right * (width - size[1] + 1))
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    return pair[0][:, rows, columns], pair[1][:, rows, columns]
