"""The classes of label maps by name, or as a file lists them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

from p2pkit.builtin.datasets.cityscapes import CITYSCAPES
from p2pkit.builtin.datasets.facade_drawing.palette import LABEL_COLOURS, Label
from p2pkit.errors import DataError, visible
from p2pkit.networks.label_classes import MOST_CLASSES, Colour, LabelClasses
from p2pkit.utils.opening import read_regular

Known = Literal["cmp_facades", "cityscapes"]
VOID = "void"
MOST_BYTES = 1_000_000
CITYSCAPES_VOID = (
    (0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180), (150, 100, 100),
    (150, 120, 90), (0, 0, 90), (0, 0, 110),
)  # fmt: skip
"""The colours of the classes that are not."""


def label_classes(classes: str | Path) -> LabelClasses:
    """The classes called "cmp_facades" or "cityscapes", or those in a CSV file of lines ``name,red,green,blue``.

    Values are those of 8 bits. A line of gray maps is ``name,value``. The colours called "void" are of no class.

    Raises:
        DataError: the file cannot be read, or is not such a table.
    """
    if str(classes) == "cmp_facades":
        return LabelClasses([label.name.lower() for label in Label], [_colour(each) for each in LABEL_COLOURS])
    if str(classes) == "cityscapes":
        void = [_colour(each) for each in CITYSCAPES_VOID]
        return LabelClasses([*CITYSCAPES], [_colour(each) for each in CITYSCAPES.values()], void)
    return _of_file(Path(classes))


def _of_file(file: Path) -> LabelClasses:
    try:
        text = read_regular(file, MOST_BYTES).decode("utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except OSError as error:
        known = "a CSV file of lines name,red,green,blue, or cmp_facades, or cityscapes"
        raise DataError(f"{file}: there is no such table of classes; give {known}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: this is not a CSV file in UTF-8: {error}") from error
    names, colours, void = list[str](), list[Colour](), list[Colour]()
    for number, (name, *values) in enumerate(rows, 1):
        given = [value.strip() for value in values]
        if len(given) not in (1, 3) or not all(value.isdecimal() and int(value) < 256 for value in given):
            expected = "expected name,red,green,blue with numbers from 0 to 255, or name,value for gray label maps"
            raise DataError(f"{file}, line {number}: found {visible(','.join([name, *values]))[:100]!r}; {expected}")
        colour = _colour([int(value) for value in given])
        if name.strip() == VOID:
            void.append(colour)
        else:
            names.append(name.strip())
            colours.append(colour)
    every = [*colours, *void]
    if not 0 < len(colours) <= MOST_CLASSES or len({*every}) < len(every) or len({*map(len, every)}) > 1:
        raise DataError(
            f"{file}: expected 1 to {MOST_CLASSES} classes, each of a colour of its own, and all of as many channels"
        )
    return LabelClasses(names, colours, void)


def _colour(values: tuple[int, ...] | list[int]) -> Colour:
    return tuple(value / 255 for value in values)
