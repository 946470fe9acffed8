"""Pixels as the bytes of a file, exactly: PNG where it can hold them, else NumPy's format, never a pickle."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.errors import DataError
from p2pkit.images.pictures import to_pillow


def encode(pixels: NDArray[Any], key: str) -> tuple[str, bytes]:
    """The ending of a file and its bytes for pixels [height, width, channels] (integers or floating point).

    Raises:
        DataError: pixels of another type; the message begins with ``key``.
    """
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"{key}: pixels of type {pixels.dtype}; expected integers or floating point")
    file = BytesIO()
    try:
        image = to_pillow(pixels)
    except DataError:
        np.save(file, pixels, allow_pickle=False)
        return "npy", file.getvalue()
    image.save(file, format="PNG")
    return "png", file.getvalue()
