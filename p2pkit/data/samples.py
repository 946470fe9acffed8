"""What a recipe trains and validates on: its train and test set, and what all of their samples have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from p2pkit.contracts import PairedDataset, Sample, SampleHeader, ValueRange, dtype_range
from p2pkit.data.augmentation import TensorPair
from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.errors import DataError, RecipeError
from p2pkit.images.pixels import normalize
from p2pkit.settings import BadData


class SampleSpec(NamedTuple):
    """The ``first`` sample, whose channels all have, and each side's range of values; None for that of its type."""

    first: SampleHeader
    source: ValueRange | None = None
    target: ValueRange | None = None

    def tensors(self, pair: Sample) -> TensorPair:
        """The two images of a pair as tensors in [-1, 1].

        Raises:
            DataError: they differ in size, or in channels from those of the first pair, or a value cannot be mapped.
        """
        refuse_unlike(pair.header, self.first)
        source = normalize(pair.source, f"{pair.key}, its source", self.source)
        return source, normalize(pair.target, f"{pair.key}, its target", self.target)


def refuse_unlike(pair: SampleHeader, first: SampleHeader) -> None:
    """Raise DataError when the images of a pair differ in size, or in channels from those of the ``first`` pair."""
    for side in ("source", "target"):
        found, expected = getattr(pair, side)[2], getattr(first, side)[2]
        if found != expected:
            raise DataError(
                f"{pair.key}: its {side} has {found} channels, that of {first.key} has {expected}; "
                "all pairs of a data set must agree"
            )
    if pair.source[:2] != pair.target[:2]:
        sizes = " and ".join(f"{height}x{width}" for height, width, _ in (pair.source, pair.target))
        raise DataError(f"{pair.key}: source and target differ in size (height x width): {sizes}")


@dataclass(frozen=True)
class Data:
    """Train and test set of a recipe; no sample is read before it is asked for."""

    train: PairedDataset
    test: PairedDataset
    bad_data: BadData
    source: ValueRange | None = None
    """The range of the sources' values; None for that of their type."""
    target: ValueRange | None = None
    encoded: bool = False
    """Sources are numbers for an encoding, which mean the same in files of any type."""

    @cached_property
    def first(self) -> Sample:
        """The first training sample that can be used: the channels are known from it.

        Raises:
            DataError: it cannot be used and the policy is to stop, or none can.
        """

        def checked(index: int) -> Sample:
            pair = self.train[index]
            SampleSpec(pair.header, self.source, self.target).tensors(pair)
            return pair

        return SkipBadSamples(len(self.train), self.bad_data).first_usable(0, checked)[0]

    @property
    def spec(self) -> SampleSpec:
        """What all samples must have in common with the first.

        Raises:
            RecipeError: the targets are of a type that does not hold the range of the target's values.
        """
        low, high = self.value_range("target")
        dtype = self.first.target.dtype
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= low < high <= np.iinfo(dtype).max:
            raise RecipeError(f"target.range: found {low:g} to {high:g}, but targets are of {dtype}, which holds less")
        source = self.value_range("source") if self.encoded else self.source
        return SampleSpec(self.first.header, source, self.target)

    def value_range(self, side: str) -> ValueRange:
        """The range of values of "source" or "target" that becomes [-1, 1]."""
        chosen: ValueRange | None = getattr(self, side)
        return chosen or dtype_range(getattr(self.first, side).dtype)

    def with_ranges(self, found: Mapping[str, ValueRange]) -> Data:
        """The data with the range of each side that is in ``found``."""
        if not found:  # what has been read already need not be read again
            return self
        return replace(self, source=found.get("source", self.source), target=found.get("target", self.target))

    @property
    def channels(self) -> dict[str, int]:
        """What components ask for as ``source_channels`` and ``target_channels``."""
        header = self.first.header
        return {"source_channels": header.source[2], "target_channels": header.target[2]}

    @cached_property  # it looks at every file
    def fingerprint(self) -> str:
        """A text that changes when either set does."""
        train = self.train.fingerprint()
        return f"{train} + {self.test.fingerprint()}" if len(self.test) else train

    @property
    def notices(self) -> list[str]:
        """What the data set wants everybody to know."""
        return list(getattr(self.train, "notices", ()))
