"""What the painters of one photo share: the canvas, the colours, the measures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import floor

import numpy as np

from p2pkit.builtin.datasets.facade_drawing.canvas import FINENESS, Canvas, Pixels, colour
from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox, Plan, place, to_pixel
from p2pkit.builtin.datasets.facade_drawing.rng import Rng
from p2pkit.builtin.datasets.facade_drawing.styles import STYLES, Style

SHADOW_BANDS = 24
COLOUR_SPREAD = {
    "wall": 8,
    "ground_wall": 8,
    "trim": 4,
    "sky_high": 5,
    "sky_low": 5,
    "glass_high": 5,
    "sign": 12,
    "door": 8,
}


class Paints:
    """The colours of a style for one photo, each a little off."""

    def __init__(self, style: Style, rng: Rng) -> None:
        common = rng.between(-1.0, 1.0)
        self._paints: dict[str, Pixels] = {}
        for entry in fields(style):
            value = getattr(style, entry.name)
            if isinstance(value, tuple) and len(value) == 3:
                tint = [0.75 * common + 0.25 * rng.between(-1.0, 1.0) for _ in range(3)]
                offset = np.array(tint, dtype=np.float32) * COLOUR_SPREAD.get(entry.name, 0)
                self._paints[entry.name] = colour(value) + offset

    def __getitem__(self, name: str) -> Pixels:
        return self._paints[name]


@dataclass
class Scene:
    """One photo in the making; boxes and lines are in pixels of the canvas."""

    canvas: Canvas
    style: Style
    paints: Paints
    unit: float
    walls: PixelBox
    floor_lines: list[int]
    bay_lines: list[int]
    grain: Rng

    def length(self, fraction: float) -> int:
        """A fraction of a storey's height in canvas pixels, at least 1."""
        return max(1, floor(fraction * self.unit + 0.5))

    def cast_shadow(self, box: PixelBox, depth: int, strength: float, edge: int | None = None) -> None:
        """Darken the wall to the lower right of a box that stands ``depth`` pixels proud: the sun is upper left.

        Nothing is darkened to the right of ``edge``, which is the end of the walls unless given.
        """
        end = self.walls.right if edge is None else edge
        bands = min(depth, SHADOW_BANDS)
        for band in range(bands):
            top, bottom = depth * band // bands, depth * (band + 1) // bands
            dark = 1.0 - strength * (1.0 - 0.45 * band / bands)
            aside = (top + bottom) // 4
            right = min(box.right + aside, end)
            self.canvas.dim(PixelBox(box.bottom + top, box.left + aside, box.bottom + bottom, right), dark)
        aside = max(1, depth // 2)
        side = PixelBox(box.top + aside, box.right, box.bottom, min(box.right + aside, end))
        self.canvas.dim(side, 1.0 - 0.8 * strength)
        soft = max(1, depth // 4)
        lower = PixelBox(box.bottom + depth, box.left + aside, box.bottom + depth + soft, min(box.right + aside, end))
        self.canvas.dim(lower, 1.0 - 0.25 * strength)


def set_scene(plan: Plan, height: int, width: int, grain: Rng) -> Scene:
    """An empty canvas for a photo of ``height`` by ``width``, with the plan's lines where the label map has them."""
    style = STYLES[plan.style]
    return Scene(
        canvas=Canvas(height * FINENESS, width * FINENESS),
        style=style,
        paints=Paints(style, grain),
        unit=plan.unit * height * FINENESS,
        walls=place(plan.walls, height, width).times(FINENESS),
        floor_lines=[to_pixel(line, height) * FINENESS for line in plan.floor_lines],
        bay_lines=[to_pixel(line, height) * FINENESS for line in plan.bay_lines],
        grain=grain,
    )
