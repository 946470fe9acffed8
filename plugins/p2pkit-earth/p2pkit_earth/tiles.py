"""Where tiles lie on the images, and which longitudes are the val and the test set."""

from __future__ import annotations

import math
from typing import NamedTuple

from p2pkit.contracts import Split

PIXELS_PER_DEGREE = 15
NORTH, SOUTH = (90 - 60) * PIXELS_PER_DEGREE, (90 + 60) * PIXELS_PER_DEGREE
"""Rows from 60° N to 60° S. Nearer to the poles pixels are stretched more than twofold, and snow hides the land."""
BLOCK = 30 * PIXELS_PER_DEGREE
"""30° of longitude. Val and test blocks lie between training blocks, with land from the tropics to the north."""
STRIPS: dict[Split, tuple[tuple[int, int], ...]] = {
    "train": ((0, 3 * BLOCK), (4 * BLOCK, 7 * BLOCK), (8 * BLOCK, 10 * BLOCK), (11 * BLOCK, 12 * BLOCK)),
    "val": ((7 * BLOCK, 8 * BLOCK),),
    "test": ((3 * BLOCK, 4 * BLOCK), (10 * BLOCK, 11 * BLOCK)),
}
"""Columns (first, last + 1) of each split; 30-60° E is the val set, 90-60° W and 120-150° E are the test set."""


class Tile(NamedTuple):
    """A square of both images."""

    top: int
    left: int
    side: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of an image."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


def tiles(split: Split, side: int, stride: int) -> list[Tile]:
    """All tiles of a split, from north to south, at most ``stride`` pixels apart and covering it to its edges."""
    return [
        Tile(top, left, side)
        for top in _spread(NORTH, SOUTH, side, stride)
        for first, end in STRIPS[split]
        for left in _spread(first, end, side, stride)
    ]


def _spread(first: int, end: int, side: int, stride: int) -> list[int]:
    """Where pieces begin that cover [first, end), evenly."""
    gaps = math.ceil((end - first - side) / stride)
    return [first + (end - first - side) * number // max(gaps, 1) for number in range(gaps + 1)]
