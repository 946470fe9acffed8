"""Where the tiles of an image lie, and how what was made of them is blended into one image without seams."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from p2pkit.errors import DataError
from p2pkit.networks.fitting import fitting_size

SAMPLED_TILES = 16
"""The statistics of an image are gathered from no more tiles than this."""


@dataclass(frozen=True)
class Tiling:
    """Height and width of a tile, by how many pixels neighbours overlap at least, how many go through together."""

    size: int
    overlap: int
    batch_size: int = 1

    @classmethod
    def chosen(cls, generator: nn.Module, size: int, overlap: int | None = None, batch_size: int = 1) -> Tiling:
        """A tiling that ``generator`` can work with; without a given overlap it is an eighth of the size.

        Raises:
            DataError: the generator takes no tiles of that size, or they overlap by more than half.
        """
        nearest = max(fitting_size(generator, (size, size)))
        if nearest != size:
            raise DataError(
                f"a tile of {size}: this model's generator takes no images of that size; the next is {nearest}"
            )
        chosen = size // 8 if overlap is None else overlap
        if not 0 <= chosen <= size // 2:
            raise DataError(f"an overlap of {chosen}: it must lie between 0 and {size // 2}, half of the tile")
        return cls(size, chosen, batch_size)

    def along(self, side: int) -> list[Span]:
        """The tiles along a side of an image, in order; the last one is moved inwards to end with it."""
        size = min(self.size, side)
        starts = [*range(0, side - size, self.size - self.overlap), side - size]
        # the earlier of two neighbours fades out over its last pixels, however far they overlap
        fades = [start + size - self.overlap for start in starts[:-1]]
        return [
            Span(start, size, begin, end, self.overlap)
            for start, (begin, end) in zip(starts, pairwise([0, *fades, side]), strict=True)
        ]

    def count(self, height: int, width: int) -> int:
        """How many tiles an image has."""
        return len(self.along(height)) * len(self.along(width))


class Span(NamedTuple):
    """A tile along one side of an image: the pixels from ``start`` on, ``size`` of them.

    Its own part is from ``begin`` to ``end``. In the first ``fade`` pixels of that it fades in over the tile before it
    (but for the first tile); in the ``fade`` pixels behind it fades out (but for the last).
    """

    start: int
    size: int
    begin: int
    end: int
    fade: int

    def enlarged(self, scale: int) -> Span:
        """What it is in an image ``scale`` times as large."""
        return Span(*(scale * place for place in self))

    @property
    def own(self) -> tuple[float, float]:
        """Where its own part begins and ends, as fractions of the tile."""
        return (self.begin - self.start) / self.size, (self.end - self.start) / self.size


def sampled(spans: list[Span], most: int) -> list[Span]:
    """At most ``most`` of the tiles along a side, evenly spread, the first and the last among them."""
    if len(spans) <= most:
        return spans
    step = (len(spans) - 1) / max(1, most - 1)
    return [spans[round(index * step)] for index in range(most)]


def for_statistics(rows: list[Span], columns: list[Span]) -> list[tuple[Span, Span]]:
    """The tiles that stand for an image: all of a small one, a coarse grid of a large one."""
    down = min(len(rows), max(math.isqrt(SAMPLED_TILES), SAMPLED_TILES // len(columns)))
    across = SAMPLED_TILES // down
    return [(row, column) for row in sampled(rows, down) for column in sampled(columns, across)]


class Blend:
    """Blends the tiles of an image, given row by row from left to right, and gives out each pixel once.

    What it keeps is the part of the last tile, and of the last row of tiles, that the next ones fade in over.
    """

    def __init__(self) -> None:
        self._right = torch.empty(0)
        self._below: dict[int, Tensor] = {}

    def add(self, row: Span, column: Span, tile: Tensor) -> Tensor:
        """Take a tile [C, H, W]; give its own part, from (row.begin, column.begin) on, which is done now."""
        strip, self._right = _faded(tile, column, self._right, 2)
        above = self._below.pop(column.begin, torch.empty(0))
        done, self._below[column.begin] = _faded(strip, row, above, 1)
        return done


def _faded(tile: Tensor, span: Span, before: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The part of a tile that is its own, faded in over ``before``, and what it leaves to its successor, faded out."""
    own = tile.narrow(axis, span.begin - span.start, span.end - span.begin)
    if span.begin > 0 and span.fade:
        own = own.clone()
        own.narrow(axis, 0, span.fade).mul_(_window(span.fade, axis)).add_(before)
    left = min(span.fade, span.start + span.size - span.end)
    over = tile.narrow(axis, span.end - span.start, left)
    return own, over * (1.0 - _window(left, axis))


def _window(length: int, axis: int) -> Tensor:
    """The weights with which a tile fades in, a raised cosine's half period, to multiply along ``axis`` of 3."""
    phase = (torch.arange(length) + 0.5) / max(1, length)
    return (0.5 - 0.5 * torch.cos(math.pi * phase)).reshape([-1 if place == axis else 1 for place in range(3)])
