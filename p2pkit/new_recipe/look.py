"""What the images of a folder are: their number, sizes, channels, types and values, and whether they are label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import Sample, SampleHeader
from p2pkit.data.augmentation import scale_of
from p2pkit.data.checks import SampleRef, sample_refs, scan
from p2pkit.data.class_table import BETWEEN, LOSSY, ClassTable
from p2pkit.data.sets import Data
from p2pkit.errors import DataError
from p2pkit.images.formats import ChannelsOfPalette
from p2pkit.images.pixels import as_indices

SAMPLED = 64
"""At the pixels of so many training pairs, evenly spread, it is looked."""
MOST_CLASSES = 64
"""Maps of more different numbers, or colours, are not taken for label maps."""
VOID = 255
"""The number that stands for "of no class" in many label maps."""
PIXELS = 200_000
"""Colours are counted among so many pixels of an image."""
SIDES = ("source", "target")


@dataclass
class Side:
    """What the images of one side are; sizes and channels of all of them, values of a sample of the train set."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(height, width) of training images."""
    channels: Counter[int] = field(default_factory=Counter)
    values: int = 0
    """How many all images have together."""
    palette: bool = True
    """All of them have a palette."""
    dtypes: Counter[str] = field(default_factory=Counter)
    low: float = np.inf
    high: float = -np.inf
    opaque: bool = True
    """No pixel of the last of 2 or 4 channels is below the highest value of its type."""
    bits: int = 0
    """Of how few bits the values of a file are, 1 for black and white; 0 where they are of 8 or more."""
    numbers: ClassTable = field(default_factory=lambda: ClassTable("training", 2**16))
    """What stands in images of one channel of integers, or in a palette."""
    colours: set[int] = field(default_factory=set)

    def add(self, pixels: NDArray[Any], key: str) -> None:
        """Take in the pixels [H, W, C] of an image."""
        values = np.asarray(pixels)
        self.dtypes[str(values.dtype)] += 1
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        if values.shape[2] in (2, 4) and values.dtype.kind in "iu":
            self.opaque &= bool((values[:, :, -1] == np.iinfo(values.dtype).max).all())
        self.bits = max(self.bits, getattr(pixels, "bits", 0))
        numbers = np.asarray(as_indices(pixels))
        if numbers.shape[2] == 1 and numbers.dtype.kind in "iu" and len(self.numbers.pixels) <= 2 * MOST_CLASSES:
            self.numbers.add(numbers[:, :, 0].astype(np.int64), key)
        if values.shape[2] in (3, 4) and values.dtype == np.uint8 and len(self.colours) <= MOST_CLASSES:
            few = values.reshape(-1, values.shape[2])[:: max(1, values[:, :, 0].size // PIXELS), :3].astype(np.int64)
            self.colours.update(np.unique(few @ np.array([65536, 256, 1])).tolist())

    @property
    def smallest(self) -> int:
        """The shortest side of any training image."""
        return min(min(size) for size in self.sizes)

    @property
    def aspect(self) -> tuple[float, float]:
        """The lowest and the highest ratio of width to height."""
        ratios = [width / height for height, width in self.sizes]
        return min(ratios), max(ratios)

    @property
    def classes(self) -> tuple[int, int | None] | None:
        """The number of classes of label maps, and the number that is of none; None where they are no label maps.

        They are where few whole numbers from 0 up stand in flat areas, next to any other number.
        """
        found, table = set(self.numbers.pixels), self.numbers
        void = VOID if VOID in found and len(found) > 2 else None
        classes = found - {void}
        if table.images < sum(self.dtypes.values()) or table.lossy or not 2 <= len(classes) <= MOST_CLASSES:
            return None
        mixed = len(found - table.whole) > LOSSY * len(found) or table.between > BETWEEN * table.edges
        if mixed or self.bits == 1 or not 0 <= min(classes) <= max(classes) < MOST_CLASSES:
            return None
        return max(classes) + 1, void

    @property
    def shown(self) -> str:
        """Sizes, channels, type and values, in words."""
        sizes = sorted(self.sizes, key=lambda size: size[0] * size[1])
        shown = "{}x{}".format(*sizes[0]) + (" to {}x{}".format(*sizes[-1]) if len(sizes) > 1 else "")
        several = f", {len(sizes)} sizes" if len(sizes) > 1 else ""
        counts = " or ".join(map(str, sorted(self.channels)))
        channels = f"{counts} channel{'s' * (counts != '1')}{' of a palette' * self.palette}"
        values = f"values {self.low:g} to {self.high:g}" if self.low <= self.high else "no values"
        return f"{shown} (height x width{several}), {channels} of {' or '.join(sorted(self.dtypes))}, {values}"


@dataclass
class Look:
    """What has been found on looking at all headers of a data set, and at the pixels of some training pairs."""

    data: Data
    sides: dict[str, Side] = field(default_factory=lambda: {side: Side() for side in SIDES})
    counts: Counter[str] = field(default_factory=Counter)
    """The pairs of each set that can be used."""
    unusable: list[str] = field(default_factory=list)
    """A message on each pair that cannot be."""
    scales: Counter[int] = field(default_factory=Counter)
    """How many times as high and wide as its source a target is; 0 where it is not a whole multiple."""

    @property
    def bytes(self) -> int:
        """What all pairs take once they are decoded."""
        return sum(side.values * max(np.dtype(each).itemsize for each in side.dtypes) for side in self.sides.values())

    @property
    def source(self) -> Side:
        """The sources."""
        return self.sides["source"]

    @property
    def target(self) -> Side:
        """The targets."""
        return self.sides["target"]

    @property
    def scale(self) -> int:
        """How many times as large as sources all targets are; 0 where sizes of pairs differ otherwise."""
        return next(iter(self.scales)) if len(self.scales) == 1 else 0


def look_at(data: Data) -> Look:
    """Look at all headers, and at the pixels of up to 64 training pairs.

    Raises:
        DataError: no training pair can be used.
    """
    look, refs, trained = Look(data), sample_refs(data), list[SampleRef]()

    def header(ref: SampleRef) -> SampleHeader | str:
        try:
            samples: Any = data.sets[ref.place]
            found: SampleHeader = samples.header(ref.number)
            return found
        except DataError as error:
            return str(error)

    first: SampleHeader | None = None
    for ref, found in zip(refs, scan("looking at sizes", refs, header, brief=True), strict=True):
        if isinstance(found, str):
            look.unusable.append(found)
            continue
        split = data.sets[ref.place].split
        look.counts[split] += 1
        if split == "train":
            first = first or found
            trained.append(ref)
        _add_header(look, found, split == "train")
    if first is None:
        few = f", such as {look.unusable[0]}" if look.unusable else ""
        raise DataError(f"none of the {len(look.unusable)} training pairs can be read{few}")
    _look_at_pixels(look, trained)
    return look


def _add_header(look: Look, header: SampleHeader, trained: bool) -> None:
    for side, shape in zip(look.sides.values(), header[:2], strict=True):
        side.channels[int(shape[2])] += 1
        side.palette &= isinstance(shape[2], ChannelsOfPalette)
        side.values += shape[0] * shape[1] * shape[2]
        if trained:
            side.sizes[shape[:2]] += 1
    look.scales[scale_of(header)] += 1


def _look_at_pixels(look: Look, trained: Sequence[SampleRef]) -> None:
    few = [trained[place * len(trained) // SAMPLED] for place in range(SAMPLED)] if len(trained) > SAMPLED else trained

    def read(ref: SampleRef) -> Sample | str:
        try:
            return look.data.sets[ref.place][ref.number]
        except DataError as error:
            return str(error)

    read_any = False
    for sample in scan("looking at pixels", few, read, brief=True):
        if isinstance(sample, str):
            look.unusable.append(sample)
            continue
        read_any = True
        for name, side in look.sides.items():
            side.add(getattr(sample, name), sample.key)
    if not read_any:
        raise DataError(f"none of {len(few)} training pairs can be read, such as {look.unusable[-1]}")
