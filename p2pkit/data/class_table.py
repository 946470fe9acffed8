"""Label maps before a run: which numbers stand in them, how often, and whether they are those of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.data.checks import SampleRef, scan
from p2pkit.data.sets import Data
from p2pkit.data.value_statistics import among, called, spread
from p2pkit.distributed.collectives import on_main_process
from p2pkit.errors import DataError
from p2pkit.images.pixels import FULL_SCALE, nothing_there
from p2pkit.networks.encoding import SourcePart, split_sources
from p2pkit.utils.progress import print_line

REFUSED = 0.01
"""A larger share of pixels whose number is not that of a class is refused."""
LISTED = 8
"""How many numbers a message lists."""
LOSSY = 0.5
"""If a larger share of the numbers never covers 2x2 pixels, something has mixed them."""
BETWEEN = 0.25
"""If at a larger share of edges the number lies between those of its neighbours, resampling has mixed them."""
LOSSY_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif")
FEWEST = 8
"""Of fewer numbers nothing can be said."""


@dataclass
class ClassTable:
    """How many pixels of a set's sources have which number; ``classes`` and ``void`` are those of the encoding."""

    called: str
    """What messages call the set."""
    classes: int
    void: int | None = None
    pixels: Counter[int] = field(default_factory=Counter)
    """By number."""
    whole: set[int] = field(default_factory=set)
    """The numbers that cover 2x2 pixels somewhere."""
    images: int = 0
    of: int = 0
    """How many sources there are."""
    edges: int = 0
    """Pixels whose left and right, or upper and lower, neighbours are of two classes."""
    between: int = 0
    """Those of them whose number lies between the two."""
    lossy: int = 0
    """Images that are JPEGs, as their keys say."""
    clipped: int = 0
    """Pixels whose number the recipe's range of values turns into another one."""

    def add(self, numbers: NDArray[np.int64], key: str = "", clipped: int = 0) -> None:
        """Take in the numbers [H, W] of an image, of which so many were others in its file."""
        self.clipped += clipped
        self.lossy += key.lower().endswith(LOSSY_ENDINGS)
        for along in (numbers, numbers.T):
            one, middle, other = along[:-2], along[1:-1], along[2:]
            self.edges += int(np.count_nonzero(one != other))
            self.between += int(np.count_nonzero((middle - one) * (other - middle) > 0))
        found, counts = np.unique(numbers, return_counts=True)
        self.pixels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        alike = (numbers[1:, 1:] == numbers[:-1, 1:]) & (numbers[1:, 1:] == numbers[1:, :-1])
        alike &= numbers[1:, 1:] == numbers[:-1, :-1]
        self.whole.update(np.unique(numbers[1:, 1:][alike]).tolist())
        self.images += 1

    def share(self, count: int) -> str:
        """A number of pixels in per cent of all."""
        return f"{count / max(1, self.pixels.total()):.2%}"

    @property
    def outside(self) -> Counter[int]:
        """The pixels whose number is neither a class nor void, by number."""
        return Counter(
            {number: count for number, count in self.pixels.items()
             if not 0 <= number < self.classes and number != self.void}
        )  # fmt: skip

    def problem(self) -> str:
        """What is wrong with the numbers, and what to do; empty where they can be trained on."""
        if self.clipped:
            return (
                f"source.range turns {self.share(self.clipped)} of the pixels of label maps, in {self._among()}, into "
                "those of other classes: their numbers are clipped to it. Leave source.range out"
            )
        outside, total = self.outside, self.pixels.total()
        if outside.total() <= REFUSED * total:
            return ""
        return (
            f"the sources are not maps of {self.classes} classes: {self.share(outside.total())} of their pixels, in "
            f"{self._among()}, have numbers that are not classes: {_listed(outside)}. {self._remedy()}"
        )

    def notices(self) -> list[str]:
        """What is odd about numbers that can be trained on."""
        found, outside = [], self.outside
        if outside and not self.problem():
            found.append(
                f"{self.share(outside.total())} of the sources' pixels, in {self._among()}, have numbers that are not "
                f"classes ({_listed(outside)}): they are 0 in all channels. Name one of them as encoding.void, or "
                "raise encoding.classes"
            )
        if mixed := self._mixed():
            found.append(f"{mixed}: save label maps as PNG, and resize them to the nearest pixel")
        if len(self.pixels) > 2 and (factor := self._stretched()) and not outside:
            found.append(
                f"all numbers in the label maps are multiples of {factor}, as where maps of few bits were stretched to "
                f"8: divide them by {factor} unless they are so by intent"
            )
        classes = [number for number in self.pixels if 0 <= number < self.classes]
        if len(classes) == 1 and self.classes > 1 and not self.problem():
            found.append(f"all pixels of the label maps, in {self._among()}, are of class {classes[0]}, or of none")
        return found

    def _among(self) -> str:
        return f"{among(self.images, self.of)} {self.called} sources"

    def _mixed(self) -> str:
        """Why numbers of classes seem to be mixed with one another; empty where they do not."""
        if self.lossy:
            return f"{self.lossy} of {self.images} label maps are JPEGs, whose compression changes numbers of classes"
        few = self.pixels.keys() - self.whole
        if len(self.pixels) >= FEWEST and len(few) > LOSSY * len(self.pixels):
            what = f"{len(few)} of the {len(self.pixels)} numbers in the label maps never cover 2x2 pixels"
        elif self.between > BETWEEN * self.edges:
            share = f"{self.between / self.edges:.0%}"
            what = f"at {share} of the edges in the label maps the number lies between those on either side"
        else:
            return ""
        return f"{what}, as happens where JPEG, WebP or resampling has mixed the numbers of classes"

    def _stretched(self) -> int:
        """The largest factor of few bits that all numbers have in common; 0 where there is none."""
        found = [number for number in self.pixels if number != self.void]
        for factor in sorted(map(int, FULL_SCALE.values()), reverse=True):
            if len(found) > 1 and not any(number % factor for number in found):
                return factor
        return 0

    def _remedy(self) -> str:
        if factor := self._stretched():
            return (
                f"All numbers are multiples of {factor}, as where maps of few bits were stretched to 8: divide them by "
                f"{factor}"
            )
        if mixed := self._mixed():
            return f"Note that {mixed}: save label maps as PNG, and resize them to the nearest pixel"
        return "Set encoding.classes to how many there are, or name one of the numbers as encoding.void"


def _listed(pixels: Counter[int]) -> str:
    few = ", ".join(str(number) for number, _ in pixels.most_common(LISTED))
    return few + (f" and {len(pixels) - LISTED} more" if len(pixels) > LISTED else "")


def rows_of(tables: Sequence[ClassTable], most: int | None = None) -> list[list[str]]:
    """A row for each number, with its share of pixels in each set; the classes first, then all others.

    Of more classes than ``most`` those with most pixels in the first set have a row.
    """
    first, void = tables[0], tables[0].void
    every: Counter[int] = sum((table.pixels for table in tables), Counter())
    classes = [number for number in every if 0 <= number < first.classes]
    shown = sorted(classes, key=lambda number: (-first.pixels[number], number))[:most]
    others, missing = set(classes) - set(shown), first.classes - len(classes)
    outside = Counter({number: every[number] for table in tables for number in table.outside})
    lines: list[tuple[str, Collection[int]]] = [(str(number), {number}) for number in sorted(shown)]
    lines += [(f"{len(others)} other class{'es' if len(others) > 1 else ''}", others)] if others else []
    lines += [(f"{missing} {'classes that are' if missing > 1 else 'class that is'} in no map", ())] if missing else []
    lines += [(f"{void}, void", {void})] if void is not None else []
    lines += [(f"{number}, not a class", {number}) for number, _ in outside.most_common(LISTED)]
    return [
        [name, *(table.share(sum(table.pixels[number] for number in numbers)) for table in tables)]
        for name, numbers in lines
    ]


def problem_of(tables: Sequence[ClassTable]) -> str:
    """What is wrong with the first set that cannot be used; empty where all can."""
    problems = {table.called: problem for table in tables if (problem := table.problem())}
    first, *others = [*problems] or [""]
    return problems.get(first, "") + "".join(f" So it is in the {other} set." for other in others)


def refuse_foreign_numbers(data: Data, parts: Sequence[SourcePart], accelerator: Accelerator) -> None:
    """Let the main process look at the numbers in label maps, and print what is odd about them.

    Raises:
        DataError: many of them are not those of classes.
    """

    def count() -> None:
        for tables in count_classes(data, parts):
            for table in tables:
                for notice in table.notices():
                    print_line(f"NOTICE: {notice}")
            if tables:
                rows = rows_of(tables)
                data.about.setdefault("classes", []).append({"sets": [table.called for table in tables], "rows": rows})
            if problem := problem_of(tables):
                raise DataError(problem)

    on_main_process(accelerator, count)


def count_classes(data: Data, parts: Sequence[SourcePart], every: bool = False) -> list[list[ClassTable]]:
    """For each of the sources that are label maps: the tables of its train, val and test set.

    They are of 128 samples each, or of ``every`` one; those that cannot be used are left out: other checks report them.
    """
    return [_tables(data, parts, part, every) for part in parts if hasattr(part.encoding, "class_numbers")]


def _tables(data: Data, parts: Sequence[SourcePart], part: SourcePart, every: bool) -> list[ClassTable]:
    spec, tables, refs = data.spec, dict[int, ClassTable](), list[SampleRef]()
    encoding, side = part.encoding, f"source.{part.name}".rstrip(".")
    for place, samples in enumerate(data.sets[:3]):
        if len(samples):
            name = f"{called(samples)} {part.name}".strip()
            tables[place] = ClassTable(name, encoding.classes, encoding.void, of=len(samples))
            refs += [SampleRef(place, number) for number in spread(len(samples), every)]

    low, high = data.value_range(side)

    def numbers(ref: SampleRef) -> tuple[Tensor, str, int] | None:
        try:
            sample = data.sets[ref.place][ref.number]
            source = split_sources(spec.tensors(sample).source, parts)[part.name]
        except DataError:
            return None
        with torch.no_grad():
            counted: Tensor = encoding.class_numbers(source[None])[0]
        image: Any = sample.image(side)
        there = nothing_there(image, data.values[side].reading.nodata)
        stored = np.asarray(image) if there is None else np.asarray(image)[~there]
        return counted, sample.key, int(np.count_nonzero((stored < low) | (stored > high)))

    threads = 1 if data.train.draws() else None
    for ref, found in zip(refs, scan("counting classes", refs, numbers, threads, brief=True), strict=True):
        if found is not None:
            tables[ref.place].add(found[0].numpy().astype(np.int64), *found[1:])
    return list(tables.values())
