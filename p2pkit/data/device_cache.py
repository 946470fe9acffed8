"""Samples kept on the device that trains, where they are normalized, resized, cropped and flipped then."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from p2pkit.contracts import Sample, ValueRange, dtype_range
from p2pkit.data.augmentation import SampleSpec, Tensors, joined
from p2pkit.data.samples import Samples
from p2pkit.errors import RecipeError
from p2pkit.images.pixels import PLAIN_READING, to_unit_range

SHARE_OF_FREE = 0.5
"""Samples may take this share of the memory that is free before the first step, which needs the rest."""


class _Kept(NamedTuple):
    """A sample on the device: its images as stored, uint8 [C, H, W], each with its range; or its tensors."""

    key: str
    has_target: bool
    images: list[tuple[Tensor, ValueRange]]
    tensors: Tensors | None


class DeviceCache:
    """The tensors of samples on a device: images of 8 bits as they are stored, others as float32.

    A sample goes there when it is first asked for.
    """

    def __init__(self, samples: Samples, spec: SampleSpec, device: torch.device) -> None:
        self._samples, self._spec, self._device = samples, spec, device
        self._kept: dict[int, _Kept] = {}

    def tensors(self, index: int) -> tuple[Tensors, str]:
        """The sample at ``index`` as :meth:`SampleSpec.tensors` has it, on the device, and its key.

        Raises:
            DataError: it cannot be used.
            RecipeError: all of them do not fit into the memory of the device.
        """
        kept = self._kept.get(index)
        if kept is None:
            kept = self._kept[index] = self._put(self._samples[index])
        if kept.tensors is not None:
            return kept.tensors, kept.key
        images = [to_unit_range(image.float(), values) for image, values in kept.images]
        return Tensors(*joined(images, kept.has_target)), kept.key

    def _put(self, sample: Sample) -> _Kept:
        tensors = self._spec.tensors(sample)  # what cannot be used is refused here
        images, plain = list[tuple[Tensor, ValueRange]](), not self._spec.has_mask
        for side, (values, reading) in self._spec.sides.items():
            image = sample.image(side)
            if image is None:
                continue
            plain = plain and image.dtype == np.uint8 and reading == PLAIN_READING
            plain = plain and getattr(image, "nodata", None) is None
            if plain:
                pixels = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
                images.append((pixels, values or dtype_range(image.dtype)))
        kept = [image for image, _ in images] if plain else [each for each in tensors if each is not None]
        self._refuse_too_many(sum(each.nbytes for each in kept))
        has_target = sample.target is not None
        if plain:
            there = [(image.to(self._device), values) for image, values in images]
            return _Kept(sample.key, has_target, there, None)
        on_device = [each if each is None else each.to(self._device) for each in tensors]
        return _Kept(sample.key, has_target, [], Tensors(*on_device))  # type: ignore[arg-type]

    def _refuse_too_many(self, sample_bytes: int) -> None:
        """Raise RecipeError where all samples, of so many bytes as the first, do not fit."""
        if self._kept or self._device.type != "cuda":
            return
        free, needed = torch.cuda.mem_get_info(self._device)[0], sample_bytes * len(self._samples)
        if needed > SHARE_OF_FREE * free:
            raise RecipeError(
                f'loader.cache = "device": the {len(self._samples)} samples of the train set take about '
                f"{needed / 1e9:.1f} GB, more than half of the {free / 1e9:.1f} GB that are free on {self._device}; "
                'set it to "memory" or "disk"'
            )
