"""Image files to pixel arrays as stored."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from p2pkit.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

AS_STORED = frozenset({"L", "RGB", "RGBA", "LA", "I;16"})
"""Pillow modes that are pixels already; the others (palettes, bilevel, CMYK ...) are turned into gray or RGB."""
_FILTERING = threading.Lock()
GRAY_MODES = frozenset({"1"})
SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width."""
TIFF_PARTS = ((273, 279), (324, 325))
"""The TIFF tags of the offsets and byte counts of strips, and of tiles."""
TAIL = 4096
"""How many bytes at the end of a file are searched for the mark that ends an image."""


def read_image(file: Path) -> NDArray[Any]:
    """The pixels of an image file, [height, width, channels], uint8 or uint16.

    Raises:
        DataError: the file is missing, truncated, no image, or too large to be one; the message names it.
    """
    with _failures_of(str(file)), _opened(file) as image:
        return image_pixels(image)


def read_image_bytes(data: bytes, name: str) -> NDArray[Any]:
    """The pixels of an image file that is in memory, as :func:`read_image` gives them; messages begin with ``name``.

    Raises:
        DataError: it is truncated, no image, or too large to be one.
    """
    with _failures_of(name), _opened(BytesIO(data)) as image:
        return image_pixels(image)


def image_header(file: Path) -> tuple[int, int, int]:
    """The shape (height, width, channels) that :func:`read_image` would give, from the header of an image file.

    A file whose end is not that of its format is read whole, to know whether it is damaged.

    Raises:
        DataError: as read_image does, but for damage in the middle of a file.
    """
    with _failures_of(str(file)), _opened(file) as image:
        width, height = image.size
        channels = Image.getmodebands(_pixel_mode(image))
        turned = _is_turned(image)
        enough = _header_is_enough(file, image, turned)
    if enough:
        return (width, height, channels) if turned else (height, width, channels)
    height, width, channels = read_image(file).shape
    return height, width, channels


@contextmanager
def _failures_of(name: str) -> Iterator[None]:
    """Turn whatever reading an image raises in the body into a DataError that begins with ``name``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file") from error
    except PermissionError as error:
        raise DataError(f"{name}: reading it is not permitted") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: this is not an image that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: refused, it unpacks to more pixels than are plausible: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name}: the image cannot be read, it is damaged or incomplete: {error}") from error


def _opened(file: Path | IO[bytes]) -> Image.Image:
    # filters of warnings belong to the whole process, and images are read in threads too
    with _FILTERING, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(file)


def image_pixels(image: Image.Image) -> NDArray[Any]:
    """The pixels of a Pillow image, upright, [height, width, channels], uint8 or uint16.

    Raises:
        DataError: Pillow cannot give its pixels as stored.
    """
    mode = _pixel_mode(image)
    image = ImageOps.exif_transpose(image)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _pixel_mode(image: Image.Image) -> str:
    """The mode in which the pixels of a Pillow image are taken, known before they are decoded."""
    colour_of_16_bits = len(image.getbands()) > 1 and ";16" in repr(getattr(image, "tile", ""))
    if image.mode in ("I", "F") or colour_of_16_bits:
        raise DataError("its pixels have more bits than can be read; 8 bits a channel, or 16-bit gray, are expected")
    if image.mode == "I;16B":
        return "I;16"
    if image.mode in AS_STORED:
        return image.mode
    return "L" if image.mode in GRAY_MODES else "RGB"


def _is_turned(image: Image.Image) -> bool:
    """Whether the upright image is as high as the stored one is wide."""
    # for a PNG without EXIF before its pixels, its own getexif decodes them to see whether there is any behind
    exif = Image.Image.getexif(image)
    return exif.get(ExifTags.Base.Orientation) in SIDEWAYS


def _header_is_enough(file: Path, image: Image.Image, turned: bool) -> bool:
    """Whether a file ends as its format says, and nothing behind its header can change the shape of its pixels."""
    with file.open("rb") as handle:
        head = handle.read(16)
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - TAIL))
        tail = handle.read()
    match image.format:
        case "PNG":
            return b"IEND" in tail and b"eXIf" not in tail
        case "JPEG" | "MPO":  # cameras append to it
            return b"\xff\xd9" in tail
        case "WEBP":
            return int.from_bytes(head[4:8], "little") + 8 <= size
        case "BMP":
            return int.from_bytes(head[2:6], "little") <= size
        case "TIFF":  # some of Pillow's decoders of it turn the image, others do not
            return not turned and _end_of_tiff(image) <= size
        case _:
            return False


def _end_of_tiff(image: Image.Image) -> int:
    """Where the last strip or tile of a TIFF ends, in bytes from its beginning."""
    tags = getattr(image, "tag_v2", {})
    parts = (zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False) for starts, lengths in TIFF_PARTS)
    try:
        return max((int(start + length) for part in parts for start, length in part), default=0)
    except (TypeError, ValueError):  # tags that are no numbers: let the decoder judge
        return sys.maxsize


def find_images(folder: Path) -> list[Path]:
    """All image files below ``folder``, in the order of their names.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{folder}: the folder holds no images (looked for {suffixes}, in subfolders too)")
    return found
