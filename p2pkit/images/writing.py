"""Pixel arrays to image files and Pillow images. A file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2pkit.errors import DataError
from p2pkit.storage import written_aside


def write_image(file: Path, pixels: NDArray[Any]) -> None:
    """Write pixels [height, width, channels] as the format of ``file``'s suffix.

    Raises:
        DataError: no image format holds pixels of that depth and number of channels.
    """
    image = to_pillow(pixels)
    with written_aside(file) as aside:
        image.save(aside, format=Image.registered_extensions()[file.suffix.lower()])


def to_pillow(pixels: NDArray[Any]) -> Image.Image:
    """A Pillow image of pixels [height, width, channels]: 8 bits with 1 to 4 channels, or 16-bit gray."""
    channels = pixels.shape[2]
    if pixels.dtype == np.uint8 and channels in (1, 2, 3, 4):
        return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    if pixels.dtype == np.uint16 and channels == 1:
        return Image.fromarray(pixels[:, :, 0])
    raise DataError(
        f"a PNG cannot hold {channels} channels of {pixels.dtype}; it holds 1 to 4 channels of 8 bits, or 1 of 16"
    )
