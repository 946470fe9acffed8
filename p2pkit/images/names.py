"""What image files are called: their endings, and the ending that an output gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from p2pkit.images.formats import installed


def ending(file: Path) -> str:
    """The ending of a file's name in lower case; that of ``scan.nii.gz`` is ``.nii.gz``."""
    return installed().ending(file.name)


def without_ending(file: Path) -> Path:
    """The path of a file without its ending."""
    return file.with_name(file.name[: len(file.name) - len(ending(file))])


def without_image_ending(path: Path) -> Path:
    """A path without the ending of an image format: of a folder called ``1.2.840`` nothing is taken."""
    return without_ending(path) if ending(path) in installed().endings else path


def tiled_ending(source: str) -> str:
    """The ending of a translation in tiles of a file with the ending ``source``."""
    return ".npy" if source == ".npy" else ".tif"


def output_ending(source: Path, dtype: np.dtype[Any], channels: int, of_targets: str = "") -> str:
    """The ending of a translation of ``source`` with so many channels of ``dtype``.

    It is of the format of the training targets, whose ending is ``of_targets``, or where that is not known of the
    source's, if that format writes such pixels; else of PNG where that can hold them, or TIFF.

    Raises:
        PluginError: two plugins offer a format of that ending.
    """
    formats, own = installed(), ending(source)
    targets = of_targets or own
    of_format = formats.with_ending(targets)
    for wanted in (of_format.output_ending(targets, own) if of_format else "", ".png"):
        written = formats.with_ending(wanted)
        if written is not None and written.holds(dtype, channels):
            return wanted
    return ".tif"
