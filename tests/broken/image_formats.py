"""Image formats that break their contract."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.images.regions import ArrayRegions
from p2pkit.testing import image_formats
from tests.broken import Broken


class Good:
    """An image format as it should be: a line of text before the pixels."""

    endings: Any = (".good", ".fine")

    def recognises(self, head: bytes) -> bool:
        return head.startswith(b"good ")

    def header(self, stream: IO[bytes]) -> Any:
        return tuple(map(int, stream.readline().split()[1:4]))

    def read(self, stream: IO[bytes]) -> Any:
        dtype = stream.readline().split()[4].decode()
        content = stream.read()
        stream.seek(0)
        return np.frombuffer(content, dtype).reshape(self.header(stream))

    def holds(self, dtype: np.dtype[Any], channels: int) -> bool:
        return dtype.itemsize <= 2

    def write(self, stream: IO[bytes], pixels: NDArray[Any]) -> None:
        height, width, channels = pixels.shape
        stream.write(f"good {height} {width} {channels} {pixels.dtype}\n".encode() + pixels.tobytes())


class OneEnding(Good):
    """A format whose only ending is not in a list, which is allowed, but it is TIFF's."""

    endings = ".tif"


class NoDot(Good):
    """A format whose ending has no dot."""

    endings = ("good",)


class TakesAll(Good):
    """A format that takes all files for its own."""

    def recognises(self, head: bytes) -> bool:
        return True


class KnowsNone(Good):
    """A format that does not know its own files."""

    def recognises(self, head: bytes) -> bool:
        return False


class EightBits(Good):
    """A format that cuts what it writes to 8 bits."""

    def write(self, stream: IO[bytes], pixels: NDArray[Any]) -> None:
        super().write(stream, pixels.astype(np.uint8))


class OfItsOwnOnly(Good):
    """A format that takes every source for one of its own."""

    def write_like(self, stream: IO[bytes], pixels: NDArray[Any], source: Any) -> None:
        with source.open("rb") as opened:
            self.read(opened)
        self.write(stream, pixels)


class HoldsNothing(Good):
    """A format that writes, but nothing."""

    def holds(self, dtype: np.dtype[Any], channels: int) -> bool:
        return False


class WidthFirst(Good):
    """A format with width and height swapped in its header alone."""

    def header(self, stream: IO[bytes]) -> Any:
        height, width, channels = super().header(stream)
        return width, height, channels

    def read(self, stream: IO[bytes]) -> Any:
        pixels = super().read(stream)
        return pixels.reshape(pixels.shape[1], pixels.shape[0], -1)


class OtherRegions(Good):
    """A format whose regions are turned upside down."""

    def open_regions(self, file: Any) -> Any:
        with file.open("rb") as opened:
            return ArrayRegions(self.read(opened)[::-1])


class KeepsItsPlace(Good):
    """A format that keeps the file that it reads."""

    def read(self, stream: IO[bytes]) -> Any:
        self.stream = stream
        self.stream.read()
        self.stream.seek(0)
        return super().read(self.stream)


class FillsUp(Good):
    """A format that fills up what a file lacks."""

    def read(self, stream: IO[bytes]) -> Any:
        height, width, channels = self.header(stream)
        stream.seek(0)
        dtype = stream.readline().split()[4].decode()
        pixels = np.zeros(height * width * channels, dtype)
        found = np.frombuffer(stream.read()[: pixels.nbytes], np.uint8)
        pixels.view(np.uint8)[: len(found)] = found
        return pixels.reshape(height, width, channels)


class TooSmall(Good):
    """A format that reads files at half their size, whatever is asked for."""

    def read_reduced(self, stream: IO[bytes], least: Any) -> Any:
        return self.read(stream)[::2, ::2]


BROKEN = [
    Broken("image_formats", check, factory, found)
    for check, factory, found in (
        (image_formats.declares_endings, OneEnding, "the ending '.tif', which is that of a format of p2pkit "),
        (image_formats.declares_endings, NoDot, "its endings are ('good',)"),
        (image_formats.recognises_its_own, TakesAll, "it takes .png for its own"),
        (image_formats.recognises_its_own, KnowsNone, "it does not know what it wrote"),
        (image_formats.recognises_its_own, HoldsNothing, "holds refuses all of uint8"),
        (image_formats.reads_what_it_writes, EightBits, "other values read, for [12, 17, 1] of int8"),
        (image_formats.reads_what_it_writes, OfItsOwnOnly, "in write_like of"),
        (image_formats.agrees_with_itself, WidthFirst, "[17, 12, 1] in the header of [12, 17, 1]"),
        (image_formats.agrees_with_itself, OtherRegions, "other values in a region"),
        (image_formats.reads_at_reduced_size, TooSmall, "[6, 9, 1] of uint8 where at least (12, 17) was asked"),
        (image_formats.works_in_threads, KeepsItsPlace, ""),
        (image_formats.refuses_damage, FillsUp, "of half a file of 1 channel of uint8"),
    )
]
