"""What image files are called: their endings, and the ending that an output gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy", ".npz", ".dcm", ".nii", ".nii.gz"}
)
_OF_FORMAT = {".tif": ".tif", ".tiff": ".tiff", ".dcm": ".tif", ".npy": ".npy", ".npz": ".npy"}
"""Endings of images that are not written as PNG, and what is written in their place."""
_NIFTI = frozenset({".nii", ".nii.gz"})
_NIFTI_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"})


def ending(file: Path) -> str:
    """The ending of a file's name in lower case; that of ``scan.nii.gz`` is ``.nii.gz``."""
    name = file.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()


def without_ending(file: Path) -> Path:
    """The path of a file without its ending."""
    return file.with_name(file.name[: len(file.name) - len(ending(file))])


def output_ending(source: Path, dtype: np.dtype[Any], channels: int, of_targets: str = "") -> str:
    """The ending of a translation of ``source`` with so many channels of ``dtype``.

    It is of the format of the training targets, whose ending is ``of_targets``, or where that is not known of the
    source's: TIFF, arrays and NIfTI stay what they are, all else becomes PNG where that can hold it, else TIFF.
    """
    own = ending(source)
    if own in _NIFTI and (of_targets or own) in _NIFTI and str(dtype) in _NIFTI_DTYPES:
        return own
    return _OF_FORMAT.get(of_targets or own) or (".png" if fits_png(dtype, channels) else ".tif")


def fits_png(dtype: np.dtype[Any], channels: int) -> bool:
    """Whether a PNG is written for pixels: 1 to 4 channels of 8 bits, or one of 16."""
    return (dtype == np.uint8 and channels in (1, 2, 3, 4)) or (dtype == np.uint16 and channels == 1)
