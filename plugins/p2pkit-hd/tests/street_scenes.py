"""Drawn streets in the folders and numbers of Cityscapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROAD, SIDEWALK, BUILDING, VEGETATION, SKY, PERSON, CAR = 7, 8, 11, 21, 23, 24, 26
COLOURS = {
    ROAD: (95, 92, 98), SIDEWALK: (158, 146, 150), BUILDING: (128, 104, 86), VEGETATION: (70, 104, 52),
    SKY: (176, 200, 226), PERSON: (196, 80, 72), CAR: (52, 74, 142),
}  # fmt: skip


def street(seed: int, height: int = 64, width: int = 128) -> tuple[Any, Any]:
    """A map of instances, uint16 [height, width], and the photo that goes with it, uint8 [height, width, 3]."""
    random = np.random.default_rng(seed)
    horizon, kerb = int(height * random.uniform(0.4, 0.5)), int(height * random.uniform(0.6, 0.66))
    objects = np.full((height, width), SKY, dtype=np.uint16)
    objects[horizon:] = SIDEWALK
    objects[kerb:] = ROAD
    left = 0
    while left < width:
        right, top = left + int(width * random.uniform(0.1, 0.25)), int(height * random.uniform(0.05, 0.35))
        objects[top : horizon + 1, left:right] = BUILDING if random.random() < 0.7 else VEGETATION
        left = right
    for number in range(int(random.integers(2, 5))):  # some stand before others
        foot, side = int(height * random.uniform(0.72, 0.92)), int(height * random.uniform(0.12, 0.2))
        left = int(random.uniform(0, width - 2 * side))
        objects[foot - side : foot, left : left + 2 * side] = CAR * 1000 + number
    for number in range(int(random.integers(1, 4))):
        left, foot = int(random.uniform(0, width)), int(height * random.uniform(0.66, 0.72))
        objects[foot - height // 6 : foot, left : left + max(2, height // 20)] = PERSON * 1000 + number
    return objects, _photo(objects, random)


def _photo(objects: Any, random: np.random.Generator) -> Any:
    height, width = objects.shape
    photo = np.zeros((height, width, 3))
    for number in np.unique(objects).tolist():
        kind, shade = (number // 1000, 1.0 + 0.2 * (number % 3)) if number >= 1000 else (number, 1.0)
        photo[objects == number] = np.array(COLOURS[kind]) * shade
    rows, columns = np.mgrid[:height, :width] // (height // 16)
    photo[(objects == BUILDING) & (rows % 2 == 1) & (columns % 2 == 1)] = (62, 66, 74)
    photo *= np.linspace(1.1, 0.85, height)[:, None, None]
    return (photo + random.normal(0, 4, (height, width, 1))).clip(0, 255).astype(np.uint8)


def write_cityscapes(root: Path, train: int, val: int, height: int = 64, width: int = 128) -> Path:
    """A data set of so many streets in ``root``."""
    for split, city, count, first in (("train", "aachen", train, 0), ("val", "lindau", val, 1000)):
        for index in range(count):
            objects, photo = street(first + index, height, width)
            for kind, ending, pixels in (
                ("gtFine", "gtFine_instanceIds", objects), ("leftImg8bit", "leftImg8bit", photo),
            ):  # fmt: skip
                file = root / kind / split / city / f"{city}_{index:06}_000019_{ending}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
    return root
