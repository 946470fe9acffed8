"""Drawings of house fronts: a label map and a photo-like picture of the same geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pkit.builtin.datasets.facade_drawing.geometry import PlacedPart, place
from p2pkit.builtin.datasets.facade_drawing.labels import paint_labels
from p2pkit.builtin.datasets.facade_drawing.layout import lay_out, style_of
from p2pkit.builtin.datasets.facade_drawing.photo import paint_photo
from p2pkit.builtin.datasets.facade_drawing.rng import Rng

Picture = NDArray[np.uint8]
STYLE_STREAM, LAYOUT_STREAM, GRAIN_STREAM = 1, 2, 3
REVISION = 1
"""Goes up whenever any pixel of any drawing changes."""


def draw_facade(seed: int, split: int, index: int, height: int, width: int) -> tuple[Picture, Picture]:
    """The photo and the label map of one facade, both [height, width, 3]; the same numbers give the same pixels."""
    style = style_of(index, lambda block: Rng(seed, split, block, STYLE_STREAM))
    plan = lay_out(style, Rng(seed, split, index, LAYOUT_STREAM), width / height)
    parts = [PlacedPart(part.label, place(part.box, height, width), part.form, part.variation) for part in plan.parts]
    photo = paint_photo(plan, parts, height, width, Rng(seed, split, index, GRAIN_STREAM))
    return photo, paint_labels(parts, height, width)
