"""Images larger than memory, written region by region: a tiled TIFF, or NPY. A file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffWriter

from p2pkit.images import tiff
from p2pkit.images.names import ending
from p2pkit.utils.atomic import atomic_write

BLOCK = 256
"""Height and width of the tiles in a TIFF."""
BIG = 4_000_000_000
"""A TIFF of more bytes is a BigTIFF: plain ones end at 4 GiB."""


class RegionSink(Protocol):
    """Takes the parts of an image, each once."""

    def write(self, top: int, left: int, pixels: NDArray[Any]) -> None:
        """Put ``pixels`` [height, width, channels] at row ``top`` and column ``left``."""
        ...


class ArraySink:
    """Collects regions into an array in memory, [height, width, channels]."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.pixels: NDArray[Any] = np.empty(shape, dtype)

    def write(self, top: int, left: int, pixels: NDArray[Any]) -> None:
        """Put ``pixels`` at their place."""
        self.pixels[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels


class _BlockSink:
    """Writes regions into blocks that lie one after another in a file, from byte ``offset`` on.

    Not through mapped memory: that would count as the process's, and a full disk would end the process without a word.
    """

    def __init__(self, stream: BinaryIO, dtype: np.dtype[Any], offset: int, width: int, block: tuple[int, int]) -> None:
        self._stream, self._dtype, self._offset, self._block = stream, dtype, offset, block
        self._blocks_across = -(-width // block[1])

    def write(self, top: int, left: int, pixels: NDArray[Any]) -> None:
        down, across = self._block
        pixels = np.ascontiguousarray(pixels, self._dtype)
        pixel_size = pixels.shape[2] * self._dtype.itemsize
        for row in range(top, top + pixels.shape[0]):
            for column in range(left // across, -(-(left + pixels.shape[1]) // across)):
                first = max(left, column * across)
                last = min(left + pixels.shape[1], (column + 1) * across)
                block = row // down * self._blocks_across + column
                place = (block * down + row % down) * across + first - column * across
                self._stream.seek(self._offset + place * pixel_size)
                self._stream.write(pixels[row - top, first - left : last - left].data)


@contextmanager
def written_in_regions(
    file: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], source: Path | None = None
) -> Iterator[RegionSink]:
    """Give what takes the parts of an image [height, width, channels]; at the end they are in ``file``.

    The ending .npy makes an array of it, every other a TIFF in tiles, not compressed, which takes over what describes
    ``source`` if that is a TIFF too.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    is_array = ending(file) == ".npy"
    described = source is not None and ending(source) in (".tif", ".tiff") and not is_array
    like = tiff.carried_over(source) if source is not None and described else {}
    dtype = dtype.newbyteorder(like.pop("byteorder", "="))
    with atomic_write(file) as aside:
        offset = _empty_array(aside, shape, dtype) if is_array else _empty_tiff(aside, shape, dtype, like)
        with aside.open("r+b") as stream:
            yield _BlockSink(stream, dtype, offset, shape[1], shape[:2] if is_array else (BLOCK, BLOCK))


def _empty_array(file: Path, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> int:
    """Write an NPY file of nothing but zeros; the byte where they begin."""
    return int(np.lib.format.open_memmap(file, "w+", dtype, shape).offset)


def _empty_tiff(file: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], like: dict[str, Any]) -> int:
    """Write a TIFF of nothing but zeros; the byte where its tiles begin, one after another."""
    height, width, channels = shape
    colour = channels in (3, 4) and dtype.kind == "u"
    size = dtype.itemsize * channels * BLOCK**2 * -(-height // BLOCK) * -(-width // BLOCK)
    with TiffWriter(file, bigtiff=size > BIG, byteorder=">" if dtype.str[0] == ">" else "<") as writer:
        writer.write(
            shape=shape if channels > 1 else shape[:2],
            dtype=dtype,
            tile=(BLOCK, BLOCK),
            photometric=PHOTOMETRIC.RGB if colour else PHOTOMETRIC.MINISBLACK,
            planarconfig="contig" if channels > 1 else None,
            metadata=None,
            **like,
        )
    with TiffFile(file) as written:
        return int(written.pages[0].dataoffsets[0])
