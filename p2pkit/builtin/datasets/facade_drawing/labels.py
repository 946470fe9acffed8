"""The label map of a facade."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from p2pkit.builtin.datasets.facade_drawing.geometry import PlacedPart
from p2pkit.builtin.datasets.facade_drawing.palette import LABEL_COLOURS, Label


def paint_labels(parts: Iterable[PlacedPart], height: int, width: int) -> NDArray[np.uint8]:
    """Flat colours [height, width, 3], each part over those before it."""
    classes = np.full((height, width), Label.BACKGROUND, dtype=np.uint8)
    for part in parts:
        box = part.box
        classes[box.top : box.bottom, box.left : box.right] = part.label
    return np.array(LABEL_COLOURS, dtype=np.uint8)[classes]
