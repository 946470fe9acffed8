"""The sets of a recipe, and what all of their samples share: channels, ranges of values, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from p2pkit.contracts import NO_IMAGE, Sample, ValueRange, dtype_range
from p2pkit.data.augmentation import SampleSpec, scale_of
from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.data.samples import Samples
from p2pkit.data.side_values import BySide, SideValues
from p2pkit.errors import DataError, RecipeError
from p2pkit.settings import BadData, TransformSettings, height_width

DERIVED = ("auto", "percentiles", "default", "labels")
"""The rules by which the range of a side is, or may be, found in the pixels."""
ANY_RANGE, ANY_LOGARITHMIC = (0.0, 1.0), (1.0, 2.0)
"""Serve where pixels are only to be looked at."""
REDUCING_GAP = 2
"""How many times as high and wide as they become images of reduced size stay at least, so that little is to be seen of
how they were reduced; Pillow's thumbnails keep the same."""
LITTLE = 0.2
"""Values that take up less than this share of the range that becomes [-1, 1] are reported."""


@dataclass(frozen=True)
class Data:
    """The sets of a recipe, each of which may be empty, the train set where nothing is trained.

    No sample is read before it is asked for. A side is what SampleHeader.sides calls so.
    """

    train: Samples
    val: Samples
    test: Samples
    validation: Samples
    """The one that metrics are taken on: the val or the test set, empty where there is neither."""
    bad_data: BadData
    values: Mapping[str, SideValues]
    """What the recipe says of the values of each side."""
    ranges: Mapping[str, ValueRange | None]
    """The range of the values of each side; None where it is that of their type."""
    mask_range: ValueRange | None = None
    """The stored values of masks that weigh 0 and 1, as the recipe says."""
    set_notices: Sequence[str] = ()
    """What has been found on looking at all sets together."""
    found_notices: Sequence[str] = ()
    """What has been found on looking at the values of pixels."""
    transform: TransformSettings = TransformSettings()  # noqa: RUF009 - nothing changes it
    """What training does with all samples."""
    about: dict[str, Any] = field(default_factory=dict)
    """What looking at all of it before a run has found, for the record: sizes by side, classes of label maps."""

    @property
    def to_one_size(self) -> bool:
        """Whether all images are resized to one size, so that the two images of a pair may differ in theirs."""
        return self.transform.load_size is not None and not self.transform.keep_aspect

    @property
    def why_whole(self) -> str:
        """Why no image is read at reduced size although the recipe has it so; empty where some are, or it has not."""
        if not self.transform.reduced_jpeg:
            return ""
        known = next(filter(len, (self.train, self.val, self.test)), self.train)
        with suppress(DataError, RecipeError):  # for whoever looks at the data itself
            return known.why_whole(self.transform.keep_aspect) or self._least_sizes()[1]
        return ""

    @cached_property
    def sets(self) -> list[Samples]:
        """All sets: train, val and test, and after them the targets of those that are unpaired, if there are any."""
        sets = [self.train, self.val, self.test]
        return [*sets, *filter(None, map(attrgetter("targets"), sets))]

    @cached_property
    def first(self) -> Sample:
        """The first sample that can be used, of the train set if there is one: the channels are known from it.

        Of an unpaired data set its sides are the first source and the first target.

        Raises:
            DataError: it cannot be used and the policy is to stop, or none can.
        """
        found: list[Sample] = []
        # where nothing is trained, any set will do
        known = self.train if len(self.train) else self.test if len(self.test) else self.val
        for samples in filter(None, (known, known.targets)):

            def checked(index: int, samples: Samples = samples) -> Sample:
                sample, sides = samples[index], {}
                for side in sample.header.sides:
                    chosen, said = self.ranges[side], self.values[side]
                    # until a range is found, any will do
                    anyhow = ANY_LOGARITHMIC if said.reading.logarithmic else ANY_RANGE
                    sides[side] = chosen or (anyhow if said.rule in DERIVED else None), said.reading
                SampleSpec(sample.header, sides, self.mask_range, to_one_size=self.to_one_size).tensors(sample)
                return sample

            found.append(SkipBadSamples(len(samples), self.bad_data).first_usable(0, checked)[0])
        first = found[0]._replace(target=found[-1].target)
        for side in self.values:
            if side not in ("source", *first.header.sides):
                has = ", ".join(first.header.sides[:-1]) if first.header.parts else "one without a name: [source]"
                raise RecipeError(f"{side}: the data has no source of that name; its sources are {has}")
        return first

    @property
    def spec(self) -> SampleSpec:
        """What all samples must have in common with the first.

        Raises:
            RecipeError: the targets are of a type that does not hold the range of the target's values.
        """
        low, high = self.value_range("target")
        dtype, first, sides = self.first.target.dtype, self.first.header, {}
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= low < high <= np.iinfo(dtype).max:
            raise RecipeError(f"target.range: found {low:g} to {high:g}, but targets are of {dtype}, which holds less")
        has_mask = first.mask != NO_IMAGE
        for side in first.sides:
            chosen, said = self.ranges[side], self.values[side]
            sides[side] = (self.value_range(side) if said.encoded else chosen), said.reading
            has_mask |= said.reading.masked
        if has_mask and self.train.targets is not None:
            raise RecipeError('mask = "nodata": the data is unpaired, and has no masks; set fill in place of it')
        scale = 1 if self.train.targets is not None else scale_of(first) or 1
        return SampleSpec(first, sides, self.mask_range, has_mask, scale, self.to_one_size)

    def value_range(self, side: str) -> ValueRange:
        """The range of values of a side that becomes [-1, 1]."""
        image = getattr(self.first, side) if side in Sample._fields else self.first.image(side)
        assert image is not None
        try:
            return self.ranges[side] or dtype_range(image.dtype)
        except KeyError as error:
            wrong = f"its pixels are of {image.dtype}, which has no range of its own"
            raise DataError(f"{side}: {wrong}; set {side}.range") from error

    def as_read(self) -> tuple[Samples, Samples]:
        """The train set, and the one to take metrics on, at reduced size as far as the recipe lets them be."""
        (sizes, _), alike = self._least_sizes(), self.transform.keep_aspect
        train = self.train.reduced(sizes, alike)
        return train, train if self.validation is self.train else self.validation.reduced(sizes, alike)

    def _least_sizes(self) -> tuple[dict[str, tuple[int, int]], str]:
        """How small the images of each side may be read; where no side may, nothing, and why, as messages say it."""
        settings, sizes = self.transform, dict[str, tuple[int, int]]()
        if settings.load_size is None or not settings.reduced_jpeg:
            return {}, ""
        spec, alike = self.spec, settings.keep_aspect and self.train.targets is None
        if spec.has_mask:
            return {}, "there are masks, which go with them pixel by pixel"
        if alike and (spec.scale > 1 or spec.first.parts):
            what = "targets are larger than sources" if spec.scale > 1 else "there are several sources"
            return {}, f"{what}, and with keep_aspect they have to keep their relation"
        height, width = height_width(settings.load_size)
        for side in spec.first.sides:
            times = REDUCING_GAP * (spec.scale if side == "target" else 1)
            if self.values[side].shades and side in ("source", "target"):  # several sources have to be of one size
                sizes[side] = times * height, times * width
        if not sizes or (alike and len(sizes) < 2):
            return {}, "pixels are numbers, or some mean that nothing is there"
        return sizes, ""

    def with_ranges(self, found: Mapping[str, ValueRange], notices: Sequence[str] = ()) -> Data:
        """The data with the range of each side that is in ``found``, and ``notices`` on their values."""
        return replace(self, ranges=BySide({**self.ranges, **found}), found_notices=notices)

    @property
    def channels(self) -> dict[str, int]:
        """What components ask for as ``source_channels``, those of all sources together, and ``target_channels``."""
        header = self.first.header
        return {"source_channels": header.source[2], "target_channels": header.target[2]}

    @cached_property  # it looks at every file
    def fingerprint(self) -> str:
        """A text that changes when any of the sets does."""
        sets = filter(len, (self.train, self.val, self.test))
        return " + ".join(f"{'' if each is self.train else f'{each.split} '}{each.fingerprint()}" for each in sets)

    @property
    def problems(self) -> list[str]:
        """What must be mended before training, as the data set says."""
        return list(dict.fromkeys(chain.from_iterable(map(attrgetter("problems"), self.sets))))

    @property
    def notices(self) -> list[str]:
        """What the data set wants everybody to know, and what its sets mean for validation."""
        of_sets = chain.from_iterable(map(attrgetter("notices"), self.sets))
        notices = dict.fromkeys([*of_sets, *self.set_notices, *self.found_notices])
        if self.bad_data == "skip":
            notices |= dict.fromkeys(self.problems)
        if why := self.why_whole:
            notices[f"transform.reduced_jpeg: images are decoded at their full size, since {why}"] = None
        if not len(self.validation):
            remedy = "" if self.train.targets is not None else "; set data.split, such as 0.2, or add a val set"
            notices[f"no validation: the data has neither a val nor a test set{remedy}"] = None
        elif self.train.targets is not None:
            losses = "choose a method and losses that need no pairs (l1 compares pairs too)"
            notices[f"the data is unpaired: metrics compare pairs, so none are taken; {losses}"] = None
        elif not len(self.val):
            seen = "metrics on it are optimistic for what has been selected by them"
            notices[f"there is no val set: the test set serves as both, so {seen}"] = None
        return list(notices)
