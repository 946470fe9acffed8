"""Pixels as the bytes of a file, exactly: PNG where it can hold them, else NumPy's format, never a pickle."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2pkit.errors import DataError
from p2pkit.images.pictures import to_pillow
from p2pkit.images.pixels import FULL_SCALE, StoredPixels
from p2pkit.images.tiff import TIFF
from p2pkit.images.tiff_meaning import GDAL_NODATA


def encode(pixels: NDArray[Any], key: str) -> tuple[str, bytes]:
    """The ending of a file and its bytes for pixels [height, width, channels] (integers or floating point).

    Those of files with few bits become such a PNG again (bool of several channels such an array), colours of a palette
    a PNG with that palette, and those with a value for no data a TIFF that names it.

    Raises:
        DataError: pixels of another type; the message begins with ``key``.
    """
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"{key}: pixels of type {pixels.dtype}; expected integers or floating point")
    file = BytesIO()
    if isinstance(pixels, StoredPixels) and pixels.bits:
        numbers = np.asarray(pixels) // FULL_SCALE[pixels.bits]
        if numbers.shape[2] == 1:
            return "png", _gray_png(numbers[:, :, 0], pixels.bits)
        if pixels.bits == 1:
            np.save(file, numbers.astype(bool), allow_pickle=False)
            return "npy", file.getvalue()
    if isinstance(pixels, StoredPixels) and pixels.indices is not None:
        _with_palette(np.asarray(pixels), pixels.indices).save(file, format="PNG")
        return "png", file.getvalue()
    if isinstance(pixels, StoredPixels) and pixels.nodata is not None:
        TIFF().write(file, np.asarray(pixels), {"extratags": [(GDAL_NODATA, 2, 0, repr(pixels.nodata), True)]})
        return "tif", file.getvalue()
    try:
        image = to_pillow(pixels)
    except DataError:
        np.save(file, np.asarray(pixels), allow_pickle=False)
        return "npy", file.getvalue()
    image.save(file, format="PNG")
    return "png", file.getvalue()


def lost(pixels: NDArray[Any]) -> list[str]:
    """What a file says of its pixels that is not in what :func:`encode` makes of them."""
    if not isinstance(pixels, StoredPixels):
        return []
    found = ["the colour profile"] if pixels.profile else []
    if pixels.inverted is not None:
        found.append("that the file has 0 for white (as numbers of classes its pixels mean others now)")
    if pixels.bits and pixels.nodata is not None:
        found.append("the value for no data")
    if pixels.bits > 1 and pixels.shape[2] > 1:
        found.append("how few bits they have (as numbers of classes their pixels mean others now)")
    return found


def _with_palette(pixels: NDArray[np.uint8], indices: NDArray[np.uint8]) -> Image.Image:
    """A Pillow image of numbers [H, W], whose palette has for each of them the colour in ``pixels`` [H, W, 3]."""
    palette = np.zeros((256, 3), np.uint8)
    palette[indices] = pixels
    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(palette.tobytes())
    return image


def _gray_png(numbers: NDArray[np.uint8], bits: int) -> bytes:
    """A PNG of gray [H, W] of 1, 2 or 4 bits; Pillow writes no others than of 1 and 8."""
    height, width = numbers.shape
    places = np.unpackbits(numbers[:, :, None], axis=2)[:, :, 8 - bits :]
    rows = np.packbits(places.reshape(height, -1), axis=1)
    unfiltered = np.pad(rows, ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered.tobytes())), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
