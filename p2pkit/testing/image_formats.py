"""The contract of an image format (images.formats.ImageFormat). One that is only read is checked on damaged files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.components.host import PluginManager
from p2pkit.components.registry import Registry
from p2pkit.errors import DataError, counted
from p2pkit.images import formats
from p2pkit.images.formats import HEAD, InstalledFormat
from p2pkit.images.reading import image_header, read_image, read_image_bytes
from p2pkit.images.regions import open_regions
from p2pkit.images.writing import write_image, write_picture
from p2pkit.testing.checks import Subject, contract, require

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
CHANNELS = (1, 2, 3, 4, 7)
HEIGHT, WIDTH = 12, 17
THREADS = 8
OTHERS = {".png": b"\x89PNG\r\n\x1a\n", ".tif": b"II*\0", ".npy": b"\x93NUMPY", "nothing": b"", "zeros": bytes(HEAD)}
"""How files begin that are of other formats, or of none."""


class _Alone(PluginManager):
    """Plugins that provide one image format."""

    def __init__(self, subject: Subject) -> None:
        self._one = Registry(subject.kind)
        registered = subject.registered
        self._one.add(registered.name, subject.make, registered.distribution, registered.version)

    def registry(self, kind: str) -> Registry:
        """The one format."""
        return self._one


@contextmanager
def _alone(subject: Subject) -> Iterator[tuple[InstalledFormat, Path]]:
    """The format, a folder to write to, and reading and writing of files by it alone."""
    everything, alone = formats.plugins, _Alone(subject)
    made = InstalledFormat(subject.registered.name, subject.make())
    formats.plugins = lambda: alone
    try:
        with TemporaryDirectory() as folder:
            yield made, Path(folder)
    finally:
        formats.plugins = everything


def _held(made: InstalledFormat) -> list[NDArray[Any]]:
    """Random pixels of every type and number of channels that the format says it writes."""
    held = [(dtype, channels) for dtype in DTYPES for channels in CHANNELS if made.holds(np.dtype(dtype), channels)]
    refused = f"{', '.join(DTYPES)} with {', '.join(map(str, CHANNELS))} channels"
    require(held or not made.has("write"), f"holds refuses all of {refused}")
    return [_random(np.dtype(dtype), channels) for dtype, channels in held]


def _random(dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    rng, shape = np.random.default_rng(0), (HEIGHT, WIDTH, channels)
    if dtype.kind == "f":
        return (1000 * rng.standard_normal(shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def _written(made: InstalledFormat, folder: Path, most: int = 6) -> Iterator[tuple[Path, NDArray[Any]]]:
    """Up to ``most`` files in the format with their pixels; none of a format that is only read."""
    held = _held(made)
    for place, pixels in enumerate(held[:: -(-len(held) // most) or 1]):
        file = folder / f"{place}{made.endings[place % len(made.endings)]}"
        write_image(file, pixels)
        yield file, pixels


def _require_same(found: NDArray[Any], pixels: NDArray[Any], how: str) -> None:
    same = found.dtype == pixels.dtype and np.array_equal(found, pixels)
    what = "other values" if found.shape == pixels.shape else f"{list(found.shape)} of {found.dtype}"
    require(same, f"{what} {how}, for {list(pixels.shape)} of {pixels.dtype}")


@contract("it has read(stream), and endings with their dots that no other installed format has")
def declares_endings(subject: Subject) -> None:
    """What p2pkit asks of every format before it reads a file; and what translations are called."""
    made = InstalledFormat(subject.registered.name, subject.make())
    for ending in made.endings:
        taken = [origin for origin in formats.installed().offered_by(ending) if origin != subject.registered.origin]
        require(not taken, f"the ending {ending!r}, which is that of a format of {' and '.join(taken)}")
        output = made.output_ending(ending, ".png")
        require(output[:1] in ("", "."), f"output_ending gives {output!r}, which is neither empty nor an ending")


@contract("recognises, if there is one, knows the format's own files by their first bytes, and no others")
def recognises_its_own(subject: Subject) -> None:
    """A format that takes others' files makes them unreadable."""
    with _alone(subject) as (made, folder):
        if made.has("recognises"):
            for file, pixels in _written(made, folder):
                kind = f"{counted(pixels.shape[2], 'channel')} of {pixels.dtype}"
                require(made.recognises(file.read_bytes()[:HEAD]), f"it does not know what it wrote, {kind}")
            for name, head in OTHERS.items():
                require(name in made.endings or not made.recognises(head), f"it takes {name} for its own")


@contract("what it writes, reading gives back: all types and channels that holds does not refuse, with any source")
def reads_what_it_writes(subject: Subject) -> None:
    """Files, bytes in memory, and files written like a source of this format and like one of another."""
    with _alone(subject) as (made, folder):
        another = folder / "source.another"
        write_picture(another, np.zeros((HEIGHT, WIDTH, 1), np.uint8))
        for file, pixels in _written(made, folder, most=len(DTYPES) * len(CHANNELS)):
            _require_same(read_image(file), pixels, "read")
            _require_same(read_image_bytes(file.read_bytes(), file.name), pixels, "read from memory")
            for source in (file, another):
                like = file.with_name(f"like_{file.name}")
                write_image(like, pixels, source)
                _require_same(read_image(like), pixels, "read where it was written like a source")


@contract("header gives the shape that read gives, and open_regions, if there is one, parts of the same pixels")
def agrees_with_itself(subject: Subject) -> None:
    """Runs trust headers, and tiles trust regions."""
    rows, columns = slice(3, HEIGHT - 1), slice(2, WIDTH - 3)
    with _alone(subject) as (made, folder):
        for file, pixels in _written(made, folder):
            found = image_header(file)
            require(found == pixels.shape, f"{list(found)} in the header of {list(pixels.shape)}")
            regions = open_regions(file)
            require(tuple(regions.shape) == pixels.shape, f"regions of {regions.shape} in {list(pixels.shape)}")
            _require_same(regions.read(rows, columns), pixels[rows, columns], "in a region")


@contract("read_reduced, if there is one, gives pixels of read's type and channels, no fewer than least")
def reads_at_reduced_size(subject: Subject) -> None:
    """Large photos are read so where a recipe resizes them to much less."""
    with _alone(subject) as (made, folder):
        for file, pixels in _written(made, folder) if made.has("read_reduced") else ():
            for least in ((1, 1), (HEIGHT // 2, WIDTH // 2), (HEIGHT, WIDTH), (2 * HEIGHT, WIDTH)):
                found = read_image(file, least)
                alike = found.dtype == pixels.dtype and found.shape[2] == pixels.shape[2]
                enough = all(
                    low <= side for low, side in zip(map(min, least, (HEIGHT, WIDTH)), found.shape, strict=False)
                )
                said = f"{list(found.shape)} of {found.dtype} where at least {least} was asked of {list(pixels.shape)}"
                no_more = all(side <= full for side, full in zip(found.shape, pixels.shape, strict=False))
                require(alike and enough and no_more, f"{said} of {pixels.dtype}")


@contract("one instance reads several files in several threads at once")
def works_in_threads(subject: Subject) -> None:
    """Headers are scanned, and files translated, in threads."""
    with _alone(subject) as (made, folder), ThreadPoolExecutor(THREADS) as pool:
        written = list(_written(made, folder)) * 4
        read = pool.map(made.read, [_Slow(file.read_bytes()) for file, _ in written])
        for (_, pixels), found in zip(written, read, strict=True):
            same = np.array_equal(np.ravel(found), np.ravel(pixels))
            require(same, f"other values read in threads, for {list(pixels.shape)} of {pixels.dtype}")


class _Slow(BytesIO):
    """A stream that lets other threads go first."""

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(1e-4)
        return super().read(size)


@contract("a file that is cut short, empty or anything else is an error in read, and pixels in none of these")
def refuses_damage(subject: Subject) -> None:
    """p2pkit turns whatever is raised into a DataError that names the file."""
    with _alone(subject) as (made, folder):
        damaged = {"an empty file": b"", "random bytes": np.random.default_rng(0).bytes(2000)}
        for file, pixels in _written(made, folder):
            cut = f"half a file of {counted(pixels.shape[2], 'channel')} of {pixels.dtype}"
            damaged[cut] = file.read_bytes()[: file.stat().st_size // 2]
        for what, content in damaged.items():
            file = folder / f"damaged{made.endings[0]}"
            file.write_bytes(content)
            try:
                found = read_image(file)
            except DataError as error:
                require(str(error).startswith(str(file)), f"an error that does not name the file: {error}")
            else:
                require(False, f"pixels {list(found.shape)} of {what}")


CHECKS = (
    declares_endings, recognises_its_own, reads_what_it_writes, agrees_with_itself, reads_at_reduced_size,
    works_in_threads, refuses_damage,
)  # fmt: skip
