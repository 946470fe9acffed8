"""Pixel arrays to image files and Pillow images. A file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from p2pkit.errors import DataError
from p2pkit.images import arrays, medical, tiff
from p2pkit.images.names import ending, fits_png
from p2pkit.utils.atomic import atomic_write


def write_image(file: Path, pixels: NDArray[Any], source: Path | None = None) -> None:
    """Write pixels [height, width, channels] in the format of ``file``'s ending: .png, .tif, .npy, .nii, .nii.gz.

    TIFF and NIfTI take over what describes ``source``, an image file of the same size and format, if there is one.

    Raises:
        DataError: that format does not hold pixels of that depth and number of channels.
        WriteError: the disk is full, or writing is not allowed.
    """
    kind = ending(file)
    try:
        image = None if kind in (".npy", ".tif", ".tiff", ".nii", ".nii.gz") else to_pillow(pixels)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    like = source if source is not None and _alike(ending(source), kind) else None
    with atomic_write(file) as aside, aside.open("wb") as stream:
        if image is not None:
            image.save(stream, format=Image.registered_extensions()[kind])
        elif kind == ".npy":
            arrays.write(stream, pixels)
        elif kind.startswith(".tif"):
            tiff.write(stream, pixels, like)
        else:
            medical.write_nifti(stream, pixels, kind == ".nii.gz", like)


def _alike(one: str, other: str) -> bool:
    return one[:4] == other[:4]  # .tif and .tiff, .nii and .nii.gz


def to_pillow(pixels: NDArray[Any]) -> Image.Image:
    """A Pillow image of pixels [height, width, channels]: 8 bits with 1 to 4 channels, or 16-bit gray."""
    channels = pixels.shape[2]
    if not fits_png(pixels.dtype, channels):
        raise DataError(
            f"a PNG cannot hold {channels} channels of {pixels.dtype}; it holds 1 to 4 channels of 8 bits, or 1 of 16"
        )
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
