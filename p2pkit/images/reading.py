"""Image files to pixel arrays as stored: which format a file has, found from how it begins and what it is called."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from p2pkit.contracts import Shape
from p2pkit.errors import DataError, P2PKitError, Unavailable, counted
from p2pkit.images.formats import HEAD, ChannelsOfPalette, InstalledFormat, installed
from p2pkit.images.pictures import PNG
from p2pkit.images.pixels import FULL_SCALE, described_like, stored
from p2pkit.images.plausible import refuse_implausible
from p2pkit.utils.opening import IrregularFile, open_regular, patiently


def read_image(file: Path, least: tuple[int, int] | None = None) -> NDArray[Any]:
    """The pixels of an image file as stored, [height, width, channels], integers or floating point.

    White is the highest number. What the file says of them beside is theirs (pixels.StoredPixels). With ``least``,
    (height, width), formats that can read a file at reduced size do, no smaller than that: JPEG, and plugins' own.

    Raises:
        DataError: the file is missing, truncated, no image, or too large to be one; the message names it.
    """

    def read() -> NDArray[Any]:
        with _opened(file) as stream:
            return _pixels(_format_of(stream, file.name), stream, least)

    with failures_of(str(file)):
        return patiently(read, file)


def read_image_bytes(data: bytes, name: str) -> NDArray[Any]:
    """The pixels of an image file that is in memory, as :func:`read_image` gives them; messages begin with ``name``.

    A format that knows its files by their endings alone goes by the end of ``name``.

    Raises:
        DataError: it is truncated, no image, or too large to be one.
    """
    with failures_of(name):
        stream = BytesIO(data)
        return _pixels(_format_of(stream, name), stream)


def image_header(file: Path) -> Shape:
    """The shape (height, width, channels) that :func:`read_image` would give, from the header of an image file.

    A file whose end is not that of its format is read whole, to know whether it is damaged.

    Raises:
        DataError: as read_image does, but for damage in the middle of a file.
    """

    def read() -> Shape:
        with _opened(file) as stream:
            return _shape(_format_of(stream, file.name), stream)

    with failures_of(str(file)):
        return patiently(read, file)


def image_header_bytes(data: bytes, name: str) -> Shape:
    """The same of an image file that is in memory; messages begin with ``name``."""
    with failures_of(name):
        stream = BytesIO(data)
        return _shape(_format_of(stream, name), stream)


def middle_of(width: int, name: str) -> int:
    """How many columns each of two images side by side has; raises DataError, beginning with ``name``, if it is odd."""
    if width % 2:
        raise DataError(f"{name}: it is {counted(width, 'pixel')} wide; two images side by side have an even width")
    return width // 2


def _opened(file: Path) -> IO[bytes]:
    try:
        return open_regular(file)
    except PermissionError as error:
        raise Unavailable("reading it is not permitted") from error


def _format_of(stream: IO[bytes], name: str) -> InstalledFormat:
    # what no format knows is left to Pillow, which knows many more
    return installed().of(name, stream.read(HEAD)) or InstalledFormat("picture", PNG())


def _shape(found: InstalledFormat, stream: IO[bytes]) -> Shape:
    """The shape of what a format would read, seen to be plausible."""
    if found.has("header"):
        shape = found.header(stream)
        if found.blame:  # p2pkit's own see to it, and know how many bytes a pixel has
            refuse_implausible(math.prod(shape), stream.seek(0, os.SEEK_END))
        return shape
    pixels = _pixels(found, stream)
    height, width, channels = pixels.shape
    return height, width, ChannelsOfPalette(channels) if getattr(pixels, "indices", None) is not None else channels


def _pixels(found: InstalledFormat, stream: IO[bytes], least: tuple[int, int] | None = None) -> NDArray[Any]:
    """What a format reads, seen to be pixels [height, width, channels] and in this machine's byte order."""
    if found.blame and found.has("header"):
        _shape(found, stream)
    return checked_pixels(found.read(stream, least), f", read by the {found.blame}" if found.blame else "")


def checked_pixels(given: Any, by: str = "") -> NDArray[Any]:
    """What a reader has ``given``, seen to be pixels [height, width, channels] and in this machine's byte order.

    Raises:
        DataError: it is not; the message ends with ``by``, which names the reader.
    """
    if np.ma.is_masked(given):
        raise DataError(f"some of its pixels are masked, expected an array without a mask, so fill them{by}")
    pixels = np.asarray(given)
    if pixels.dtype.kind == "b":
        given = pixels = stored(pixels.astype(np.uint8) * FULL_SCALE[1], bits=1)
    if pixels.dtype.kind not in "iuf" or pixels.dtype.itemsize > 8:
        raise DataError(
            f"its pixels are of type {pixels.dtype}; expected integers or real numbers of up to 64 bits{by}"
        )
    if pixels.ndim not in (2, 3) or not math.prod(pixels.shape):
        raise DataError(
            f"its shape is {pixels.shape}; expected [height, width] or [height, width, channels], none of them 0{by}"
        )
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return described_like(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("=")), given)


@contextmanager
def failures_of(name: str, where: str = "") -> Iterator[None]:
    """Turn what reading an image raises in the body into a DataError that begins with ``name``; ``where`` ends it.

    But for what says nothing of what is in the file: no memory, and errors of the system that may pass (ReadError).
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{name}: this is a folder, not an image") from error
    except (IrregularFile, MemoryError):
        raise
    except Unavailable as error:
        raise Unavailable(f"{name}: {error}{where}") from error
    except DataError as error:
        raise DataError(f"{name}: {error}{where}") from error
    except P2PKitError:  # what is wrong is not the file
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: this is not an image that can be read{installed().failed()}") from error
    except Exception as error:  # damage makes decoders trip over whatever they were about to do
        raise DataError(f"{name}: the image cannot be read, it is damaged or incomplete: {error}{where}") from error
