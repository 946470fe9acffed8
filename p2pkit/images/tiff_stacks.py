"""TIFF stacks of gray planes: pages, or those of ImageJ and OME."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage, TiffPageSeries

from p2pkit.errors import DataError
from p2pkit.images.tiff import is_for_pillow, orientation
from p2pkit.images.tiff_meaning import Meaning
from p2pkit.images.tiff_opening import OF_ITS_OWN, keyframe, opened, refuse_larger_pictures
from p2pkit.utils.opening import open_regular

PLANES = "ZIQT"
"""What tifffile calls axes whose planes are those of a stack: depth, pages, others, time; not C, channels."""


class TiffStack:
    """A TIFF of several gray pages of one size and type, which are its planes (volumes.Stored)."""

    def __init__(self, file: Path) -> None:
        self.files: Sequence[Path] = [file]
        self.notices: Sequence[str] = ()
        self.affine: NDArray[np.float64] | None = None
        with open_regular(file) as stream, opened(stream) as series:
            page = keyframe(series)
            if wrong := _not_a_stack(series):
                raise DataError(wrong)
            if is_for_pillow(stream, series, page):
                raise DataError("palettes, fax and fewer than 8 bits are not planes of gray; convert it to 8 bits")
            if orientation(page) != 1:
                raise DataError(f"its orientation is {orientation(page)}; write its pages upright first")
            height, width = series.shape[-2:]
            depth = math.prod(series.shape[:-2])
            self.shape = height, width, depth
            self._meaning = Meaning.of(page)
            assert series.dtype is not None
            self._dtype = series.dtype.newbyteorder(page.parent.byteorder)
            self._offset = series.dataoffset
            """Where all planes lie one after another, unpacked; None where they do not."""
            self._pages = [] if self._offset is not None else [each.offset for each in series.pages if each is not None]
            """Where in the file the pages begin: to look for one by its number would be to read all before it."""
        if self._offset is None and len(self._pages) != depth:
            raise DataError(f"{len(self._pages)} of its {depth} planes are there")

    def slices(self, axis: int) -> bool:
        """Whether planes along ``axis`` can be read one by one."""
        return axis == 2 or self._offset is not None

    def plane(self, index: int, axis: int) -> NDArray[Any]:
        """A plane along the last axis, or along any where the file is not compressed."""
        height, width, depth = self.shape
        if self._offset is not None:
            # mapped for this long only: mapped pages count as the process's memory
            numbers = np.memmap(self.files[0], self._dtype, "r", self._offset, (depth, height, width))
            planes = np.moveaxis(numbers.transpose(1, 2, 0), axis, 2)
            plane = np.array(planes[:, :, index : index + 1], subok=False)
        else:
            with TiffFile(self.files[0], **OF_ITS_OWN) as tiff:
                tiff.filehandle.seek(self._pages[index])
                page = TiffPage(tiff, index=index)
                refuse_larger_pictures(tiff.filehandle, [page])
                plane = page.asarray().reshape(height, width, 1)
        return self._meaning.pixels(plane)

    def whole(self) -> NDArray[Any]:
        """All of it."""
        with open_regular(self.files[0]) as stream, opened(stream) as series:
            refuse_larger_pictures(stream, series.pages)
            numbers = series.asarray().reshape(self.shape[2], *self.shape[:2])
        return self._meaning.pixels(np.moveaxis(numbers, 0, 2))


def is_stack(file: Path) -> bool:
    """Whether a TIFF has several gray pages that are planes."""
    with open_regular(file) as stream, opened(stream) as series:
        return not _not_a_stack(series)


def _not_a_stack(series: TiffPageSeries) -> str:
    """What is wrong with the first image of a TIFF as a stack; empty where nothing is."""
    page = keyframe(series)
    if page.samplesperpixel > 1 or "S" in series.axes:
        return f"its pixels have {page.samplesperpixel} samples; a stack is of gray planes (photometric MINISBLACK)"
    long = [(axis, side) for axis, side in zip(series.axes, series.shape, strict=True) if axis not in "YX" and side > 1]
    if not long:
        return "it has one page; a stack has several"
    if not series.axes.endswith("YX"):
        return f"its axes are {series.axes}; expected planes one after another, ZYX"
    if page.is_ome:
        # its pages in a row say nothing of what they are
        text = str(page.description)
        sizes = [(axis, int(side)) for axis, side in re.findall(r'Size([ZCT])="(\d+)"', text)[:3] if int(side) > 1]
        long = sizes or long
    if len(long) > 1 or long[0][0] not in PLANES:
        found = " and ".join(f"{side} of axis {axis}" for axis, side in long)
        return f"its planes are {found}; expected one axis, of depth: convert it to a stack with the axes ZYX"
    return ""
