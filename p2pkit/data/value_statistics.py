"""Values of pixels before a run: what the images of each side hold, in each set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from p2pkit.contracts import Sample, ValueRange, dtype_range
from p2pkit.data.augmentation import mask_values, refuse_unlike
from p2pkit.data.bad_samples import none_usable
from p2pkit.data.checks import SampleRef, scan
from p2pkit.data.samples import Samples
from p2pkit.data.sets import Data
from p2pkit.data.side_values import SideValues
from p2pkit.errors import DataError, Unavailable
from p2pkit.images.pixels import normalize, nothing_there, refuse_not_finite, with_filled

SAMPLED = 128
"""So many samples of a set, evenly spread, are looked at before a run."""
TAIL = 0.001
"""The share of an image's values, at each end, that may be outliers."""
MOST = 100_000
"""Outliers are looked for among so many values of an image."""


@dataclass
class Statistics:
    """What the images of one side hold, in one set."""

    called: str = "training"
    """What messages call the set."""
    dtypes: Counter[str] = field(default_factory=Counter)
    low: float = math.inf
    high: float = -math.inf
    inner_low: float = math.inf
    """All but a thousandth of each image's values are above this."""
    inner_high: float = -math.inf
    whole: bool = True
    """All values are whole numbers."""
    images: int = 0
    of: int = 0
    """How many images there are, of which so many have been looked at."""
    values: int = 0
    missing: int = 0
    """How many of the values mean "nothing here"; the others are the ones above."""
    profiles: Counter[str] = field(default_factory=Counter)
    """Colour profiles, by name."""

    def add(self, other: Statistics) -> None:
        """Take in what another has found."""
        for name in ("dtypes", "profiles", "images", "values", "missing"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("low", "inner_low", "whole"):
            setattr(self, name, min(getattr(self, name), getattr(other, name)))
        for name in ("high", "inner_high"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))

    @property
    def wide(self) -> bool:
        """Whether there are values of more than 8 bits."""
        return any(np.dtype(dtype).itemsize > 1 for dtype in self.dtypes)

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
        return f"{self.low:g} to {self.high:g} in {among(self.images, self.of)} {self.called} images"


class Looked(NamedTuple):
    """What has been found: statistics by set ("train", "val", "test") and side, and messages on unusable samples."""

    sets: dict[str, dict[str, Statistics]]
    unread: list[str]


def look_at_values(
    data: Data, sides: Sequence[str], every: bool = False, splits: Sequence[str] = ("train", "val", "test")
) -> Looked:
    """What ``sides`` hold in 128 samples of each of the sets, or in ``every`` one.

    Several threads read, but for a data set that draws: global random states are the same ones in all threads.

    Raises:
        DataError: a sample cannot be used and the policy is to stop, or none can.
    """
    found, refs = Looked({}, []), list[SampleRef]()
    for place, samples in enumerate(data.sets):
        count = len(samples) if samples.split in splits else 0
        refs += [SampleRef(place, number) for number in spread(count, every)]
        paired = samples.targets is None and samples in data.sets[:3]
        for side in sides if count else ():
            if paired or (side == "target") == (samples.targets is None):
                found.sets.setdefault(samples.split, {})[side] = Statistics(called(samples), of=count)

    def look(ref: SampleRef) -> dict[str, Statistics]:
        try:
            sample = data.sets[ref.place][ref.number]
            refuse_unlike(sample.header, data.first.header, data.to_one_size)
            there = [side for side in sides if sample.image(side) is not None]
            return {side: _of_image(sample, side, side_values(data, side)) for side in there}
        except DataError as error:
            if data.bad_data == "stop" or isinstance(error, Unavailable):
                raise
            found.unread.append(str(error))
            return {}

    for ref, of_sample in zip(
        refs, scan("looking at values", refs, look, 1 if data.train.draws() else None, brief=True), strict=True
    ):
        for side, statistics in of_sample.items():
            found.sets[data.sets[ref.place].split][side].add(statistics)
    if refs and not any(held.images for sides_of in found.sets.values() for held in sides_of.values()):
        raise none_usable(found.unread)
    return found


def among(looked_at: int, of: int) -> str:
    """How many of all have been looked at, in words."""
    return f"{looked_at} of {of}" if looked_at < of else f"all {of}"


def called(samples: Samples) -> str:
    """What messages call a set."""
    return "training" if samples.split == "train" else samples.split


def spread(count: int, every: bool = False) -> Sequence[int]:
    """The places of 128 of so many samples, evenly spread, or of ``every`` one."""
    return range(count) if every or count <= SAMPLED else [each * count // SAMPLED for each in range(SAMPLED)]


def plural(side: str) -> str:
    """What messages call the images of a side: "sources", of several "sources depth", "targets" or "masks"."""
    kind, _, name = side.partition(".")
    return f"{kind}s {name}".strip()


def side_values(data: Data, side: str) -> SideValues:
    """What the recipe says of a side; of masks it says nothing here."""
    return SideValues("mask") if side == "mask" else data.values[side]


def _of_image(sample: Sample, side: str, values: SideValues) -> Statistics:
    """What an image holds; DataError where it cannot be used."""
    image = sample.image(side)
    assert image is not None
    key = f"{sample.key}, its {side.replace('.', ' ')}"
    if side == "mask":
        image = mask_values(image, key)
    where = nothing_there(image, values.reading.nodata)
    if where is not None:
        with_filled(image, where, key, values.reading)
    there = np.asarray(image).ravel() if where is None else np.asarray(image)[~where]
    refuse_not_finite(there, key)
    if values.rule == "type":
        normalize(image, key, None, values.reading)
    found = Statistics(dtypes=Counter([str(image.dtype)]), images=1, values=image.size)
    found.missing = image.size - there.size
    if profile := getattr(image, "profile", ""):
        found.profiles[profile] += 1
    if there.size:
        found.low, found.high = float(there.min()), float(there.max())
        few = there[:: max(1, there.size // MOST)].astype(np.float64)
        found.inner_low, found.inner_high = map(float, np.quantile(few, (TAIL, 1 - TAIL)))
        found.whole = image.dtype.kind != "f" or bool((there == np.rint(there)).all())
    return found
