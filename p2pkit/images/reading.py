"""Image files to pixel arrays as stored: which reader a file needs, found from how it begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from p2pkit.contracts import Shape
from p2pkit.errors import DataError
from p2pkit.images import arrays, medical, pictures, tiff
from p2pkit.images.names import IMAGE_SUFFIXES, ending

HEAD = 352
"""How many bytes at the beginning of a file determine its format."""


class Format(NamedTuple):
    """A kind of image file: how it is known by its first bytes, and what reads its pixels, and their shape alone."""

    is_it: Callable[[bytes], bool]
    read: Callable[[IO[bytes]], NDArray[Any]]
    header: Callable[[IO[bytes]], Shape]


def _dicom_header(stream: IO[bytes]) -> Shape:
    height, width, channels = medical.read_dicom(stream).shape
    return height, width, channels


FORMATS = (
    Format(lambda head: head.startswith((arrays.NPY_MAGIC, arrays.ZIP_MAGIC)), arrays.read, arrays.header),
    Format(medical.is_dicom, medical.read_dicom, _dicom_header),
    Format(lambda head: head.startswith(tiff.MAGIC), tiff.read, tiff.header),
    Format(medical.is_nifti, medical.read_nifti, medical.nifti_header),
    Format(lambda head: True, pictures.read, pictures.header),
)
"""The first that knows a file reads it."""


def read_image(file: Path) -> NDArray[Any]:
    """The pixels of an image file as stored, [height, width, channels], integers or floating point.

    Raises:
        DataError: the file is missing, truncated, no image, or too large to be one; the message names it.
    """
    with _failures_of(str(file)), file.open("rb") as stream:
        return _read(stream)


def read_image_bytes(data: bytes, name: str) -> NDArray[Any]:
    """The pixels of an image file that is in memory, as :func:`read_image` gives them; messages begin with ``name``.

    Raises:
        DataError: it is truncated, no image, or too large to be one.
    """
    with _failures_of(name):
        return _read(BytesIO(data))


def image_header(file: Path) -> Shape:
    """The shape (height, width, channels) that :func:`read_image` would give, from the header of an image file.

    A file whose end is not that of its format is read whole, to know whether it is damaged.

    Raises:
        DataError: as read_image does, but for damage in the middle of a file.
    """
    with _failures_of(str(file)), file.open("rb") as stream:
        return _format_of(stream).header(stream)


def _format_of(stream: IO[bytes]) -> Format:
    head = stream.read(HEAD)
    return next(known for known in FORMATS if known.is_it(head))


def _read(stream: IO[bytes]) -> NDArray[Any]:
    pixels = _format_of(stream).read(stream)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "iuf" or pixels.dtype.itemsize > 8:
        raise DataError(f"its pixels are of type {pixels.dtype}; expected integers or real numbers of up to 64 bits")
    if not math.prod(pixels.shape):
        raise DataError(f"its shape is {pixels.shape}; expected at least one pixel")
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


@contextmanager
def _failures_of(name: str) -> Iterator[None]:
    """Turn whatever reading an image raises in the body into a DataError that begins with ``name``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{name}: this is a folder, not an image") from error
    except PermissionError as error:
        raise DataError(f"{name}: reading it is not permitted") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: this is not an image that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: refused, it unpacks to more pixels than are plausible: {error}") from error
    except Exception as error:  # damage makes decoders trip over whatever they were about to do
        raise DataError(f"{name}: the image cannot be read, it is damaged or incomplete: {error}") from error


def find_images(folder: Path) -> list[Path]:
    """All image files below ``folder``, in the order of their names.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found = sorted(path for path in folder.rglob("*") if ending(path) in IMAGE_SUFFIXES and path.is_file())
    if not found:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{folder}: the folder holds no images (looked for {suffixes}, in subfolders too)")
    return found
