"""Regions of images larger than memory: NPY, TIFF whose strips or tiles can be read one by one, plugins' formats."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, TIFF, TiffPage

from p2pkit.images.formats import installed
from p2pkit.images.plausible import refuse_implausible
from p2pkit.images.reading import failures_of, read_image
from p2pkit.images.tiff_meaning import Meaning
from p2pkit.images.tiff_opening import opened, refuse_larger_part
from p2pkit.utils.opening import open_regular, patiently

CACHED_BYTES = 64 << 20
"""So much of a compressed TIFF is kept unpacked, since tiles that lie side by side need the same strips."""
LARGEST_SEGMENT = 256 << 20
"""A compressed TIFF in strips or tiles of more bytes is no longer read in regions."""


class Regions(Protocol):
    """An image [height, width, channels] of which parts can be had."""

    shape: tuple[int, int, int]

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The pixels [rows, columns, channels] of a part, as stored; both slices lie within the image."""
        ...


class ArrayRegions:
    """Regions of an array in memory, [height, width, channels]."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels
        height, width, channels = pixels.shape
        self.shape = (height, width, channels)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The pixels of a part."""
        return self._pixels[rows, columns]


class MappedRegions:
    """Regions of an array that lies unpacked in a file, from byte ``offset`` on; ``planes``: channels come first."""

    def __init__(
        self, file: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], planes: bool = False
    ) -> None:
        self._file, self._dtype, self._offset, self._shape, self._planes = file, dtype, offset, shape, planes
        self.shape = _image_shape(shape, planes)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The pixels of a part. The file is mapped for this long only: mapped pages count as the process's memory."""
        mapped = np.memmap(self._file, self._dtype, "r", self._offset, self._shape)
        if self._planes:
            return _native(mapped[:, rows, columns].transpose(1, 2, 0))
        return _native(mapped[rows, columns].reshape(rows.stop - rows.start, columns.stop - columns.start, -1))


class TiffRegions:
    """Regions of a TIFF in tiles or strips, of which those are unpacked that a region touches."""

    def __init__(self, file: Path, page: TiffPage) -> None:
        self._file, self._page = file, page
        self.shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
        size = math.prod(page.chunks) * page.dtype.itemsize if page.dtype else 0
        self._unpacked = lru_cache(max(1, CACHED_BYTES // max(1, size)))(self._unpack)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The pixels of a part."""
        page = self._page
        assert page.dtype is not None
        height, width = rows.stop - rows.start, columns.stop - columns.start
        pixels = np.zeros((height, width, self.shape[2]), page.dtype.newbyteorder("="))
        down, across = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        grid = math.ceil(self.shape[0] / down), math.ceil(self.shape[1] / across)
        planes = self.shape[2] if page.planarconfig == 2 else 1
        for plane in range(planes):
            part = pixels[:, :, plane : plane + 1] if planes > 1 else pixels
            for row in range(rows.start // down, math.ceil(rows.stop / down)):
                for column in range(columns.start // across, math.ceil(columns.stop / across)):
                    segment = self._unpacked((plane * grid[0] + row) * grid[1] + column)
                    _paste(part, segment, row * down - rows.start, column * across - columns.start)
        return pixels

    def _unpack(self, index: int) -> NDArray[Any]:
        """Strip or tile ``index``, [height, width, channels]."""
        page = self._page
        with open_regular(self._file) as stream:
            stream.seek(page.dataoffsets[index])
            packed = stream.read(page.databytecounts[index])
            if len(packed) < page.databytecounts[index]:
                raise ValueError("the file ends too early")
            refuse_larger_part(page, packed)
            segment, _, (_, height, width, _) = page.decode(packed, index, jpegtables=page.jpegtables)
            if segment is None:  # left out, so it is as empty as the page says
                segment = np.full((1, height, width, page.chunks[-1]), page.nodata, page.dtype)
            unpacked: NDArray[Any] = np.asarray(segment)[0]
            return unpacked


class _MeantRegions:
    """Regions of a TIFF's numbers as the pixels that they mean."""

    def __init__(self, numbers: Regions, meaning: Meaning) -> None:
        self._numbers, self._meaning = numbers, meaning
        self.shape = numbers.shape

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The pixels of a part."""
        return self._meaning.pixels(self._numbers.read(rows, columns))


class _RegionsOfFile:
    """Regions of a file; whatever reading one raises is a DataError that names it, and the plugin that is to blame."""

    def __init__(self, file: Path, regions: Regions, blame: str) -> None:
        self._file, self._regions, self._blame = file, regions, blame
        self.shape = regions.shape

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The pixels of a part."""
        with failures_of(str(self._file), f" in open_regions of {self._blame}" if self._blame else ""):
            return patiently(partial(self._regions.read, rows, columns), self._file)


def _paste(pixels: NDArray[Any], segment: NDArray[Any], top: int, left: int) -> None:
    """Put what lies within of ``segment``, whose corner belongs at (top, left), into ``pixels``."""
    bottom, right = min(top + segment.shape[0], pixels.shape[0]), min(left + segment.shape[1], pixels.shape[1])
    first_row, first_column = max(top, 0), max(left, 0)
    pixels[first_row:bottom, first_column:right] = segment[
        first_row - top : bottom - top, first_column - left : right - left
    ]


def open_regions(file: Path) -> Regions:
    """The regions of an image file.

    What its format can read part by part is read so; what can only be unpacked whole, as PNG, JPEG and WebP, is read at
    once and kept.

    Raises:
        DataError: as :func:`p2pkit.images.read_image`.
    """
    formats = installed()
    found, regions = formats.with_ending(formats.ending(file.name)), None
    with suppress(Exception):  # whatever is wrong with it, reading it whole can say
        regions = found.open_regions(file) if found else None
    if found is None or regions is None:
        return ArrayRegions(read_image(file))
    with failures_of(str(file)):
        refuse_implausible(math.prod(regions.shape), file.stat().st_size)
    return _RegionsOfFile(file, regions, found.blame)


def tiff_regions(file: Path) -> Regions | None:
    """The regions of a TIFF of one page, upright, of gray or RGB samples or many channels.

    None, or any error, for others.
    """
    with open_regular(file) as stream, opened(stream) as series:
        page = series.keyframe
        alone = len(page.parent.series) == len(series.pages) == 1
        if not alone or not isinstance(page, TiffPage) or not _is_plain(page):
            return None
        assert page.dtype is not None
        meaning = Meaning.of(page)
        if page.is_memmappable:
            dtype = page.dtype.newbyteorder(page.parent.byteorder)
            mapped = MappedRegions(file, dtype, page.dataoffsets[0], page.shape, page.axes == "SYX")
            return _MeantRegions(mapped, meaning)
        TIFF.DECOMPRESSORS[page.compression], TIFF.UNPREDICTORS[page.predictor]  # KeyError: not without more libraries
        small = math.prod(page.chunks) * page.dtype.itemsize <= LARGEST_SEGMENT
        page.decode  # noqa: B018 - made while the file is open
        return _MeantRegions(TiffRegions(file, page), meaning) if small else None


def _is_plain(page: TiffPage) -> bool:
    """Whether the samples of a page are the pixels, upright."""
    return (
        page.axes in ("YX", "YXS", "SYX")
        and page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB)
        and page.compression not in (COMPRESSION.JPEG, COMPRESSION.OJPEG)
        and page.tags.valueof("Orientation", 1) == 1
        and page.dtype is not None
        and _is_number(page.dtype)
        and page.bitspersample == 8 * page.dtype.itemsize
    )


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iuf"


def _image_shape(shape: tuple[int, ...], planes: bool) -> tuple[int, int, int]:
    if len(shape) == 2:
        return shape[0], shape[1], 1
    return (shape[1], shape[2], shape[0]) if planes else (shape[0], shape[1], shape[2])


def _native(pixels: NDArray[Any]) -> NDArray[Any]:
    """A copy in this machine's byte order."""
    return np.array(pixels, dtype=pixels.dtype.newbyteorder("="), order="C", subok=False)
