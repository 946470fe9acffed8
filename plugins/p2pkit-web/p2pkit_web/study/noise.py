"""The fakes of attention checks, and how images of a study are encoded."""

from __future__ import annotations

import hashlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(height: int, width: int, seed: str) -> NDArray[np.uint8]:
    """An image [H, W, 3] of which each pixel has a colour of its own: what nobody who looks takes for a real one."""
    digest = hashlib.sha256(seed.encode()).digest()
    chance = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return chance.integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels [H, W, 3] as the bytes of a PNG, which says nothing else: not where it comes from."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1)
    return stream.getvalue()
