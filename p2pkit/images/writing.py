"""Pixel arrays to image files. A file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from p2pkit.errors import DataError, counted
from p2pkit.images.formats import InstalledFormat, installed
from p2pkit.images.names import ending
from p2pkit.images.pictures import to_pillow
from p2pkit.utils.atomic import atomic_write


def write_image(file: Path, pixels: NDArray[Any], source: Path | None = None) -> None:
    """Write pixels [height, width, channels] in the format of ``file``'s ending: .png, .tif, .npy, .nii, .nii.gz ...

    TIFF and NIfTI take over what describes ``source``, an image file of the same size and format, if there is one; so
    does a plugin's format that has ``write_like``.

    Raises:
        DataError: that format does not hold pixels of that depth and number of channels, or is not written.
        PluginError: two plugins offer a format of that ending.
        WriteError: the disk is full, or writing is not allowed.
    """
    try:
        found, channels = format_written(ending(file)), pixels.shape[2]
        if not found.holds(pixels.dtype, channels):
            name = found.name.upper()
            raise DataError(
                f"a {name} cannot hold {counted(channels, 'channel')} of {pixels.dtype}; choose another format"
            )
        with atomic_write(file) as aside, aside.open("wb") as stream:
            found.write(stream, pixels, source)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def format_written(ending: str) -> InstalledFormat:
    """The format that files with an ending are written in.

    Raises:
        DataError: there is none.
        PluginError: two plugins offer one.
    """
    formats = installed()
    found = formats.with_ending(ending)
    if found is None or not found.has("write"):
        written = [each for each in formats.endings if formats.writes(each)]
        raise DataError(f"no image format writes {ending!r}; expected one of {' '.join(written)}{formats.failed()}")
    return found


def write_picture(file: Path, pixels: NDArray[Any], texts: Mapping[str, str] | None = None) -> None:
    """Write pixels [height, width, channels] of 8 bits, 1 to 4 channels, as PNG, whatever formats are installed.

    ``texts`` are put into the file by their names, ahead of the pixels.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    chunks = PngInfo()
    for name, text in (texts or {}).items():
        chunks.add_text(name, text)
    with atomic_write(file) as aside:
        to_pillow(pixels).save(aside, format="PNG", pnginfo=chunks)
