"""Scenes of two sources, a picture and its depths, with masks: what tests of several sources are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import picture, save

SIDE = 24


def depth_map(seed: int, height: int = SIDE, width: int = SIDE) -> Any:
    """Smooth depths of 12 bits, [height, width] of uint16."""
    shades = picture(height, width, 50 + seed, 1)[:, :, 0].astype(np.uint16)
    return shades * 16


def weights_of(seed: int, size: int = SIDE) -> Any:
    """A mask of which a quarter or more is 0, and some counts in part."""
    mask = np.full((size, size), 255, np.uint8)
    mask[: size // 2, : size // 2 + seed] = 0
    mask[-2:] = 51
    return mask


def write_scene(root: Path, name: str, seed: int, size: int = SIDE) -> None:
    save(root / "rgb" / name, picture(size, size, seed))
    save(root / "depth" / name, depth_map(seed, size, size))
    save(root / "photos" / name, 255 - picture(size, size, seed))
    save(root / "weights" / name, weights_of(seed, size))


def write_scenes(root: Path) -> Path:
    """Six scenes to train on, two in the val and two in the test set."""
    for split, seeds in (("train", range(6)), ("val", (6, 7)), ("test", (8, 9))):
        for seed in seeds:
            write_scene(root / split, f"{seed}.png", seed)
    return root
