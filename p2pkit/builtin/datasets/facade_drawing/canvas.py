"""A canvas of floating-point pixels, finer than the photo by ``FINENESS``, and the strokes that painters share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox

FINENESS = 2
Pixels = NDArray[np.float32]


def colour(levels: Sequence[int]) -> Pixels:
    """A colour to paint with, from levels 0 to 255."""
    return np.array(levels, dtype=np.float32)


def steps(count: int) -> Pixels:
    """The middles of ``count`` equal steps from 0 to 1."""
    return (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(max(count, 1))


def down(count: int) -> Pixels:
    """``steps`` along rows, to combine with colours."""
    return steps(count)[:, None, None]


def across(count: int) -> Pixels:
    """``steps`` along columns, to combine with colours."""
    return steps(count)[None, :, None]


def blend(low: Pixels, high: Pixels, share: Any) -> Pixels:
    """``low`` where ``share`` is 0, ``high`` where it is 1."""
    mixed: Pixels = low + (high - low) * share
    return mixed


class Canvas:
    """Rows, columns and three colours, 0 to 255. Strokes that reach over its edge are cut off there."""

    def __init__(self, height: int, width: int) -> None:
        self.pixels: Pixels = np.zeros((height, width, 3), dtype=np.float32)

    def at(self, box: PixelBox) -> Pixels:
        """The pixels of a box, as a view."""
        top, left = max(box.top, 0), max(box.left, 0)
        return self.pixels[top : max(box.bottom, top), left : max(box.right, left)]

    def fill(self, box: PixelBox, paint: Pixels) -> None:
        """Paint a box in one colour."""
        self.at(box)[:] = paint

    def dim(self, box: PixelBox, factor: float) -> None:
        """Multiply the light on a box."""
        view = self.at(box)
        view *= factor

    def fade(self, box: PixelBox, upper: float, lower: float) -> None:
        """Multiply the light on a box, from ``upper`` at its top to ``lower`` at its bottom."""
        view = self.at(box)
        view *= upper + (lower - upper) * down(view.shape[0])

    def veil(self, box: PixelBox, paint: Pixels, share: float) -> None:
        """Lay a half-transparent colour over a box."""
        view = self.at(box)
        view += (paint - view) * share

    def relief(self, box: PixelBox, thick: int, light: float = 1.12, shade: float = 0.8) -> None:
        """Light the top and left edges of a raised box, and shade the other two."""
        self.dim(box.rows(0, thick), light)
        self.dim(box.columns(0, thick), light)
        self.dim(box.rows(-thick, box.height), shade)
        self.dim(box.columns(-thick, box.width), shade)
