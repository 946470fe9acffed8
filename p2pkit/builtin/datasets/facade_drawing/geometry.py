"""Boxes and parts of a facade: first in units of the picture's height, then in whole pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import NamedTuple

from p2pkit.builtin.datasets.facade_drawing.palette import Label


class Box(NamedTuple):
    """An upright rectangle, in units of the picture's height on both axes."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left


class PixelBox(NamedTuple):
    """An upright rectangle of whole pixels: rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """How many rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """How many columns."""
        return self.right - self.left

    def times(self, factor: int) -> PixelBox:
        """The same rectangle on a grid ``factor`` times finer."""
        return PixelBox(*(edge * factor for edge in self))

    def inset(self, margin: int) -> PixelBox:
        """The rectangle less a margin on each side; it may come out empty."""
        return PixelBox(self.top + margin, self.left + margin, self.bottom - margin, self.right - margin)

    def rows(self, start: int, stop: int) -> PixelBox:
        """The rows [start, stop) of it, counted from its top; negative numbers count from its bottom, as in a list."""
        first, last, _ = slice(start, stop).indices(max(self.height, 0))
        return PixelBox(self.top + first, self.left, self.top + max(first, last), self.right)

    def columns(self, start: int, stop: int) -> PixelBox:
        """The columns [start, stop) of it, counted as in ``rows``."""
        first, last, _ = slice(start, stop).indices(max(self.width, 0))
        return PixelBox(self.top, self.left + first, self.bottom, self.left + max(first, last))


@dataclass(frozen=True)
class Part:
    """One labelled rectangle of a facade: ``form`` is its kind within the class, ``variation`` is 0 to 255."""

    label: Label
    box: Box
    form: str = ""
    variation: int = 128


@dataclass(frozen=True)
class PlacedPart:
    """A part on the pixel grid."""

    label: Label
    box: PixelBox
    form: str
    variation: int


@dataclass
class Plan:
    """A facade as laid out: its parts from the back to the front, and the lines they follow."""

    style: str
    walls: Box
    unit: float
    floor_lines: list[float]
    bay_lines: list[float]
    parts: list[Part] = field(default_factory=list)

    def add(self, label: Label, box: Box, form: str = "", variation: int = 128) -> None:
        """Put one more part in front of those so far."""
        self.parts.append(Part(label, box, form, variation))


def to_pixel(position: float, height: int) -> int:
    """The pixel edge nearest to a position in units of the picture's height."""
    return floor(position * height + 0.5)


def place(box: Box, height: int, width: int) -> PixelBox:
    """A box on the pixel grid of a picture: inside it, and at least one pixel each way."""
    top = min(max(to_pixel(box.top, height), 0), height - 1)
    left = min(max(to_pixel(box.left, height), 0), width - 1)
    bottom = min(max(to_pixel(box.bottom, height), top + 1), height)
    right = min(max(to_pixel(box.right, height), left + 1), width)
    return PixelBox(top, left, bottom, right)
