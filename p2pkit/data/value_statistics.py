"""Values of pixels before a run: the range that is "auto", how much of its range each side uses, what files say."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from p2pkit.contracts import Sample, ValueRange, dtype_range
from p2pkit.data.bad_samples import none_usable
from p2pkit.data.checks import SampleRef, scan
from p2pkit.data.samples import LITTLE, Data, SideValues
from p2pkit.data.value_ranges import find_percentiles
from p2pkit.distributed.collectives import on_main_process
from p2pkit.errors import DataError, Unavailable
from p2pkit.images.pixels import nothing_there, refuse_not_finite
from p2pkit.utils.progress import print_line

SAMPLED = 128
"""So many training pairs, evenly spread, are looked at for a range that is "auto"."""
TAIL = 0.001
"""The share of an image's values, at each end, that may be outliers."""
MOST = 100_000
"""Of so many values of an image its outliers are told."""


@dataclass
class Statistics:
    """What sampled training images hold on one side."""

    dtypes: Counter[str] = field(default_factory=Counter)
    low: float = math.inf
    high: float = -math.inf
    inner_low: float = math.inf
    """All but a thousandth of each image's values are above this."""
    inner_high: float = -math.inf
    images: int = 0
    of: int = 0
    """How many training images there are."""
    values: int = 0
    missing: int = 0
    """How many of the values mean "nothing here"; the others are the ones above."""
    profiles: Counter[str] = field(default_factory=Counter)
    """Colour profiles, by name."""

    def add(self, other: Statistics) -> None:
        """Take in what another has found."""
        for name in ("dtypes", "profiles", "images", "values", "missing"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("low", "inner_low"):
            setattr(self, name, min(getattr(self, name), getattr(other, name)))
        for name in ("high", "inner_high"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))

    @property
    def range_of_type(self) -> ValueRange | None:
        """What the type of all images holds; None where they have several, or one without a range."""
        try:
            return dtype_range(np.dtype(next(iter(self.dtypes)))) if len(self.dtypes) == 1 else None
        except KeyError:
            return None

    @property
    def natural_range(self) -> ValueRange | None:
        """That of the type, where all values are in it; None for floats beyond [0, 1], say."""
        low, high = self.range_of_type or (1.0, 0.0)
        return self.range_of_type if low <= self.low <= self.high <= high else None

    @property
    def shown(self) -> str:
        """The lowest and highest value, and in how many images."""
        among = f"{self.images} of {self.of}" if self.images < self.of else f"all {self.of}"
        return f"{self.low:g} to {self.high:g} in {among} training images"


class FoundValues(NamedTuple):
    """What has been found in the pixels of each side: its range, if that is derived; what they hold; what is odd."""

    ranges: dict[str, ValueRange]
    statistics: dict[str, Statistics]
    unread: list[str]
    """Messages on images that cannot be used."""
    notices: list[str]

    @property
    def sampled(self) -> bool:
        """Whether there are training images that have not been looked at."""
        return any(held.images + len(self.unread) < held.of for held in self.statistics.values())

    def lines(self, data: Data) -> Iterator[str]:
        """Which values become -1 to 1, where that has been found, and why."""
        for side, (low, high) in self.ranges.items():
            why = "as its percentiles say" if _values(data, side).percentiles else "as measured (auto)"
            yield f"{side}: values from {low:g} to {high:g} become -1 to 1, {why}: {self.statistics[side].shown}"

    def beyond(self, every: FoundValues) -> Iterator[str]:
        """Notices on ranges that were measured, and beyond which there are values among those of ``every`` image."""
        for side, (low, high) in self.ranges.items():
            held = every.statistics[side]
            if (held.low, held.high) != (self.statistics[side].low, self.statistics[side].high):
                yield (
                    f"{side}s hold values {held.shown}; a run measures {low:g} to {high:g} on "
                    f"{self.statistics[side].images} of them, and clips what is beyond. Set {side}.range to keep it"
                )


def find_values(data: Data, sides: Sequence[str] = ("source", "target"), every: bool = False) -> FoundValues:
    """The ranges of ``sides`` that a recipe asks to be found, and what is odd about their values.

    Looks at 128 training pairs, or at ``every`` one; percentiles are of all. Several threads read, but for a data set
    that draws: global random states are the same ones in all threads.

    Raises:
        DataError: a pair cannot be read and the policy is to stop, none can, or all values of a side are the same.
    """
    percentiles = {side: asked for side in sides if (asked := _values(data, side).percentiles)}
    ranges = find_percentiles(data, percentiles)
    found = FoundValues(ranges, *_statistics(data, sides, every), [])
    for side, statistics in found.statistics.items():
        rule = _values(data, side).rule
        wide = any(np.dtype(dtype).itemsize > 1 for dtype in statistics.dtypes)
        if rule == "auto" or (rule == "default" and wide):
            held = statistics.low, statistics.high
            if held[0] < held[1] and held != statistics.range_of_type:  # beyond the type's, floats are an error
                ranges[side] = held
            elif held[0] == held[1]:
                of_type = f"all values are {held[0]:g}, which is not a range: that of their type is taken"
                found.notices.append(f"{side}: {of_type}; set {side}.range for another one")
        if rule != "labels":
            found.notices.extend(_odd_values(side, statistics, ranges.get(side) or getattr(data, side)))
        found.notices.extend(_told_by_files(side, statistics, _values(data, side).missing.fill))
    return found


def with_found_values(data: Data, sides: Sequence[str], accelerator: Accelerator) -> Data:
    """The data with the ranges of ``sides`` that the main process finds and prints, and what is odd about their values.

    Raises:
        DataError: as :func:`find_values`.
    """

    def find() -> str:
        found = find_values(data, sides)
        for line in found.lines(data):
            print_line(line)
        for notice in found.notices:
            print_line(f"NOTICE: {notice}")
        return json.dumps([found.ranges, found.notices])

    ranges, notices = json.loads(on_main_process(accelerator, find))
    return data.with_ranges({side: (low, high) for side, (low, high) in ranges.items()}, notices)


def _statistics(data: Data, sides: Sequence[str], every: bool) -> tuple[dict[str, Statistics], list[str]]:
    unread: list[str] = []
    found = {side: Statistics() for side in sides}
    refs: list[SampleRef] = []
    for place, samples in enumerate(data.sets):
        if samples.split == "train":
            count = len(samples)
            chosen = range(count) if every or count <= SAMPLED else [each * count // SAMPLED for each in range(SAMPLED)]
            refs += [SampleRef(place, number) for number in chosen]
            for side in ("source", "target") if samples.targets is None and place == 0 else (_side_of(data, place),):
                if side in found:
                    found[side].of = count

    def look(ref: SampleRef) -> dict[str, Statistics]:
        try:
            sample = data.sets[ref.place][ref.number]
            there = [side for side in sides if getattr(sample, side) is not None]
            return {side: _of_image(sample, side, _values(data, side).missing.nodata) for side in there}
        except DataError as error:
            if data.bad_data == "stop" or isinstance(error, Unavailable):
                raise
            unread.append(str(error))
            return {}

    for of_sample in scan("looking at values", refs, look, 1 if data.train.draws() else None):
        for side, statistics in of_sample.items():
            found[side].add(statistics)
    if not any(statistics.images for statistics in found.values()):
        raise none_usable(unread)
    return found, unread


def _side_of(data: Data, place: int) -> str:
    """The side that images of one of the sets of unpaired data are on."""
    return "source" if data.sets[place] is data.train else "target"


def _values(data: Data, side: str) -> SideValues:
    values: SideValues = getattr(data, f"{side}_values")
    return values


def _of_image(sample: Sample, side: str, nodata: float | None) -> Statistics:
    image: NDArray[Any] = getattr(sample, side)
    where = nothing_there(image, nodata)
    values = np.asarray(image).ravel() if where is None else np.asarray(image)[~where]
    refuse_not_finite(values, f"{sample.key}, its {side}")
    found = Statistics(Counter([str(image.dtype)]), images=1, values=image.size, missing=image.size - values.size)
    if profile := getattr(image, "profile", ""):
        found.profiles[profile] += 1
    if values.size:
        found.low, found.high = float(values.min()), float(values.max())
        few = values[:: max(1, values.size // MOST)].astype(np.float64)
        found.inner_low, found.inner_high = map(float, np.quantile(few, (TAIL, 1 - TAIL)))
    return found


def _odd_values(side: str, found: Statistics, values: ValueRange | None) -> Iterator[str]:
    """Notices on values that make little use of their range; ``values`` is None for that of their type."""
    if values is None and len(found.dtypes) > 1:
        yield (
            f"{side}s are of several types ({_counted(found.dtypes)}), each of which has its own range; set "
            f"{side}.range if their values mean the same"
        )
    if found.low >= found.high:
        return
    low, high = values or dtype_range(np.dtype(next(iter(found.dtypes))))
    used, inner = (each / (high - low) for each in (found.high - found.low, found.inner_high - found.inner_low))
    if used < LITTLE:
        yield (
            f"{side}s hold values {found.shown}, which is {used:.1%} of the range {low:g} to {high:g} that becomes "
            f"-1 to 1: to the networks they are nearly of one shade. Set {side}.range = [{found.low:g}, {found.high:g}]"
        )
    elif 0 < inner < LITTLE / 2 and any(np.dtype(dtype).itemsize > 1 for dtype in found.dtypes):
        yield (
            f"{side}s: all but a few values lie between {found.inner_low:g} and {found.inner_high:g}, which is "
            f"{inner:.1%} of the range {low:g} to {high:g} that becomes -1 to 1. Set {side}.percentiles = [0.1, 99.9] "
            "to clip the others"
        )


def _told_by_files(side: str, found: Statistics, fill: float | None) -> Iterator[str]:
    """Notices on what files say of their values."""
    if found.profiles:
        yield (
            f"{found.profiles.total()} of {found.images} {side}s have a colour profile ({_counted(found.profiles)}), "
            "which is not used: their numbers are taken as stored"
        )
    if found.missing and fill is not None:
        yield (
            f"{found.missing / found.values:.2%} of the {side}s' values mean that nothing is there, and are "
            f"{fill:g} to the networks; {side}.fill says so"
        )


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in found.most_common())
