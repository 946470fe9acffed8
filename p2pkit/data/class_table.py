"""Label maps before a run: which numbers stand in them, how often, and whether they are those of the classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.data.checks import sample_refs, scan
from p2pkit.data.samples import Data
from p2pkit.distributed.collectives import on_main_process
from p2pkit.errors import DataError
from p2pkit.utils.progress import print_line

SAMPLED = 128
"""So many training sources, evenly spread, are looked at before a run."""
REFUSED = 0.01
"""A larger share of pixels whose number is not that of a class is refused."""
LISTED = 8
"""How many numbers a message lists."""
LOSSY = 0.5
"""If a larger share of the numbers never covers 2x2 pixels, something has mixed them."""
FEWEST = 8
"""Of fewer numbers nothing can be said."""
SCALES = (17, 85, 255)
"""By what maps of 4, 2 and 1 bits are multiplied to fill 8."""


@dataclass
class ClassTable:
    """How many pixels of training sources have which number; ``classes`` and ``void`` are those of the encoding."""

    classes: int
    void: int | None = None
    pixels: Counter[int] = field(default_factory=Counter)
    """By number."""
    whole: set[int] = field(default_factory=set)
    """The numbers that cover 2x2 pixels somewhere."""
    images: int = 0
    of: int = 0
    """How many training sources there are."""

    def add(self, numbers: NDArray[np.int64]) -> None:
        """Take in the numbers [H, W] of an image."""
        found, counts = np.unique(numbers, return_counts=True)
        self.pixels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        alike = (numbers[1:, 1:] == numbers[:-1, 1:]) & (numbers[1:, 1:] == numbers[1:, :-1])
        alike &= numbers[1:, 1:] == numbers[:-1, :-1]
        self.whole.update(np.unique(numbers[1:, 1:][alike]).tolist())
        self.images += 1

    def rows(self, most: int | None = None) -> list[tuple[str, str]]:
        """A number and its share of pixels, one row each; the classes first, then all others.

        Of more classes than ``most`` those with most pixels have a row.
        """
        found = Counter({number: count for number, count in self.pixels.items() if 0 <= number < self.classes})
        shown = sorted(number for number, _ in found.most_common(most))
        rows = [(str(number), self._share(found[number])) for number in shown]
        if others := len(found) - len(shown):
            rows.append((f"{others} other classes", self._share(found.total() - sum(found[each] for each in shown))))
        if missing := self.classes - len(found):
            rows.append((f"{missing} classes that are in no map", self._share(0)))
        if self.void is not None:
            rows.append((f"{self.void}, void", self._share(self.pixels[self.void])))
        return rows + [
            (f"{number}, not a class", self._share(count)) for number, count in self.outside.most_common(LISTED)
        ]

    @property
    def outside(self) -> Counter[int]:
        """The pixels whose number is neither a class nor void, by number."""
        return Counter(
            {number: count for number, count in self.pixels.items()
             if not 0 <= number < self.classes and number != self.void}
        )  # fmt: skip

    def problem(self) -> str:
        """What is wrong with the numbers, and what to do; empty where they can be trained on."""
        outside, total = self.outside, self.pixels.total()
        if outside.total() <= REFUSED * total:
            return ""
        return (
            f"the sources are not maps of {self.classes} classes: {self._share(outside.total())} of their pixels, in "
            f"{self._among()}, have numbers that are not classes: {_listed(outside)}. {self._remedy()}"
        )

    def notices(self) -> list[str]:
        """What is odd about numbers that can be trained on."""
        found, outside = [], self.outside
        if outside and not self.problem():
            found.append(
                f"{self._share(outside.total())} of the sources' pixels, in {self._among()}, have numbers that are not "
                f"classes ({_listed(outside)}): they are 0 in all channels. Name one of them as encoding.void, or "
                "raise encoding.classes"
            )
        mixed = self.pixels.keys() - self.whole
        if len(self.pixels) >= FEWEST and len(mixed) > LOSSY * len(self.pixels):
            found.append(
                f"{len(mixed)} of the {len(self.pixels)} numbers in the label maps never cover 2x2 pixels, as happens "
                "where JPEG, WebP or resampling has mixed the numbers of classes: save maps as PNG, and resize them "
                "to the nearest pixel"
            )
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
        return f"{self.images} of {self.of} training sources" if self.images < self.of else f"all {self.of} sources"

    def _share(self, count: int) -> str:
        return f"{count / max(1, self.pixels.total()):.2%}"

    def _stretched(self) -> int:
        """The largest factor of few bits that all numbers have in common; 0 where there is none."""
        found = [number for number in self.pixels if number != self.void]
        for factor in sorted(SCALES, reverse=True):
            if len(found) > 1 and not any(number % factor for number in found):
                return factor
        return 0

    def _remedy(self) -> str:
        if factor := self._stretched():
            return (
                f"All numbers are multiples of {factor}, as where maps of few bits were stretched to 8: divide them by "
                f"{factor}"
            )
        mixed = len(self.pixels) >= FEWEST and len(self.pixels.keys() - self.whole) > LOSSY * len(self.pixels)
        if mixed:
            return "Most of them never cover 2x2 pixels, as where JPEG has mixed them: save label maps as PNG"
        return "Set encoding.classes to how many there are, or name one of the numbers as encoding.void"


def _listed(pixels: Counter[int]) -> str:
    few = ", ".join(str(number) for number, _ in pixels.most_common(LISTED))
    return few + (f" and {len(pixels) - LISTED} more" if len(pixels) > LISTED else "")


def refuse_foreign_numbers(data: Data, encoding: Any, accelerator: Accelerator) -> None:
    """Let the main process look at the numbers in label maps, and print what is odd about them.

    Raises:
        DataError: many of them are not those of classes.
    """

    def count() -> None:
        table = count_classes(data, encoding)
        for notice in table.notices() if table else ():
            print_line(f"NOTICE: {notice}")
        if table and (problem := table.problem()):
            raise DataError(problem)

    on_main_process(accelerator, count)


def count_classes(data: Data, encoding: Any, every: bool = False) -> ClassTable | None:
    """The table of classes of 128 training sources, or of ``every`` one; None where the encoding is of none.

    Samples that cannot be used are left out: other checks report them.
    """
    if not hasattr(encoding, "class_numbers"):
        return None
    spec, table = data.spec, ClassTable(encoding.classes, encoding.void)
    refs = [ref for ref in sample_refs(data) if data.sets[ref.place] is data.train]
    table.of = len(refs)
    if not every and len(refs) > SAMPLED:
        refs = [refs[each * len(refs) // SAMPLED] for each in range(SAMPLED)]

    def numbers(ref: Any) -> Tensor | None:
        try:
            source = spec.tensors(data.sets[ref.place][ref.number])[0]
        except DataError:
            return None
        with torch.no_grad():
            counted: Tensor = encoding.class_numbers(source[None])[0]
        return counted

    for found in scan("counting classes", refs, numbers, 1 if data.train.draws() else None):
        if found is not None:
            table.add(found.numpy().astype(np.int64))
    return table
