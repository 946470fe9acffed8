"""Pixels as the bytes of a file, exactly: PNG where it can hold them, else NumPy's format, never a pickle."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from p2pkit.contracts import dtype_range
from p2pkit.errors import DataError
from p2pkit.images import read_image_bytes, to_pillow

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def encode(pixels: NDArray[Any], key: str) -> tuple[str, bytes]:
    """The ending of a file and its bytes for pixels [height, width, channels] (uint8, uint16, or float in [0, 1]).

    Raises:
        DataError: pixels of another type; the message begins with ``key``.
    """
    try:
        dtype_range(pixels.dtype)
    except KeyError as error:
        raise DataError(f"{key}: pixels of type {pixels.dtype}; expected uint8, uint16, or float in [0, 1]") from error
    file = BytesIO()
    try:
        image = to_pillow(pixels)
    except DataError:
        np.save(file, pixels, allow_pickle=False)
        return "npy", file.getvalue()
    image.save(file, format="PNG")
    return "png", file.getvalue()


def decode(data: bytes, name: str) -> NDArray[Any]:
    """The pixels [height, width, channels] in a file of any image format or NumPy's; messages begin with ``name``.

    Raises:
        DataError: the file is damaged, no image, or would have to be unpickled.
    """
    if not data.startswith(npy.MAGIC_PREFIX):
        return read_image_bytes(data, name)
    try:
        pixels = _array(data)
    except ValueError as error:
        raise DataError(f"{name}: the array cannot be read: {error}") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _array(data: bytes) -> NDArray[Any]:
    # not numpy.load: it would make room for whatever size the header claims
    file = BytesIO(data)
    version = npy.read_magic(file)
    if version not in _READERS:
        raise ValueError(f"its format has version {version}, which holds no pixels")
    shape, fortran_order, dtype = _READERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"its shape is {shape}, expected height, width and channels")
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"it is not as long as its shape {shape} says; it is damaged or incomplete")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran_order else "C")
