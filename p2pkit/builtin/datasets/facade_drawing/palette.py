"""The twelve classes of the CMP facade database and the colours that stand for them in a label map."""

from __future__ import annotations

from enum import IntEnum


class Label(IntEnum):
    """What a pixel of a label map belongs to."""

    BACKGROUND = 0
    FACADE = 1
    WINDOW = 2
    DOOR = 3
    CORNICE = 4
    SILL = 5
    BALCONY = 6
    BLIND = 7
    DECO = 8
    MOLDING = 9
    PILLAR = 10
    SHOP = 11


LABEL_COLOURS: tuple[tuple[int, int, int], ...] = (
    (0, 0, 170),
    (0, 0, 255),
    (0, 85, 255),
    (0, 170, 255),
    (0, 255, 255),
    (85, 255, 170),
    (170, 255, 85),
    (255, 255, 0),
    (255, 170, 0),
    (255, 85, 0),
    (255, 0, 0),
    (170, 0, 0),
)
"""Red, green and blue of each class, in the order of ``Label``."""
CLASSES = {label.name.lower(): colour for label, colour in zip(Label, LABEL_COLOURS, strict=True)}
"""The same by the name of the class."""
