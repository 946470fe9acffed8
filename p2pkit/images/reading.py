"""Image files to pixel arrays as stored."""

from __future__ import annotations

import threading
import warnings
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from p2pkit.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

AS_STORED = frozenset({"L", "RGB", "RGBA", "LA", "I;16"})
"""Pillow modes that are pixels already; the others (palettes, bilevel, CMYK ...) are turned into gray or RGB."""
_FILTERING = threading.Lock()
GRAY_MODES = frozenset({"1"})


def read_image(file: Path) -> NDArray[Any]:
    """The pixels of an image file, [height, width, channels], uint8 or uint16.

    Raises:
        DataError: the file is missing, truncated, no image, or too large to be one; the message names it.
    """
    return _read(file, str(file))


def read_image_bytes(data: bytes, name: str) -> NDArray[Any]:
    """The pixels of an image file that is in memory, as :func:`read_image` gives them; messages begin with ``name``.

    Raises:
        DataError: it is truncated, no image, or too large to be one.
    """
    return _read(BytesIO(data), name)


def _read(file: Path | IO[bytes], name: str) -> NDArray[Any]:
    try:
        with _opened(file) as image:
            return image_pixels(image)
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
    colour_of_16_bits = len(image.getbands()) > 1 and ";16" in repr(getattr(image, "tile", ""))
    if image.mode in ("I", "F") or colour_of_16_bits:
        raise DataError("its pixels have more bits than can be read; 8 bits a channel, or 16-bit gray, are expected")
    image = ImageOps.exif_transpose(image)
    if image.mode == "I;16B":
        image = image.convert("I;16")
    elif image.mode not in AS_STORED:
        image = image.convert("L" if image.mode in GRAY_MODES else "RGB")
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


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
