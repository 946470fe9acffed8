"""Arrays of NumPy as images: NPY, and NPZ that holds a single one. [height, width] or [height, width, channels]."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import RLock
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from p2pkit.errors import DataError
from p2pkit.images.pixels import not_an_image
from p2pkit.images.plausible import refuse_implausible
from p2pkit.images.regions import MappedRegions, Regions
from p2pkit.utils.opening import open_regular

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_PARSING = RLock()
"""Held while NumPy parses a header: threads that do so together can fail (SystemError), since Python 3.11 counts the
depth of literals once for all of them."""
_LONGEST_HEADER = 1 << 16
"""Bytes; NumPy itself parses no header of more than 10,000."""
_SHOWN = 8
"""How many of the arrays in a file a message names."""


class _Array(NamedTuple):
    """What stands before the values of an array, and where those are to be read from."""

    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype[Any]
    values: IO[bytes]


class _Arrays:
    def read(self, stream: IO[bytes]) -> NDArray[Any]:
        """The array in a file."""
        with _found(stream) as array:
            values = np.frombuffer(array.values.read(), array.dtype)
            return values.reshape(array.shape, order="F" if array.column_major else "C")

    def header(self, stream: IO[bytes]) -> tuple[int, ...]:
        """The shape of the array; the values are not read."""
        with _found(stream) as array:
            return array.shape


class NPY(_Arrays):
    """An array of NumPy: integers or floating point, [height, width] or [height, width, channels]."""

    endings = (".npy",)

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` begins an array."""
        return head.startswith(npy.MAGIC_PREFIX)

    def write(self, stream: IO[bytes], pixels: NDArray[Any]) -> None:
        """Write pixels [height, width, channels]."""
        pixels = np.ascontiguousarray(pixels)
        npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(pixels))
        stream.write(pixels.data)  # NumPy's own writing does not say why it has failed

    def open_regions(self, file: Path) -> Regions | None:
        """The parts of an array of numbers that lies in the file as it would in memory, the last axis together."""
        with open_regular(file) as stream:
            array = _checked(stream, stream.seek(0, os.SEEK_END))
            if array.column_major or array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
                return None
            return MappedRegions(file, array.dtype, stream.tell(), array.shape)


class NPZ(_Arrays):
    """An archive of NumPy that holds a single array. Translations become NPY."""

    endings = (".npz",)

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` begins an archive."""
        return head.startswith(b"PK\x03\x04")

    def output_ending(self, targets: str, source: str) -> str:
        """NPY."""
        return ".npy"


@contextmanager
def _found(stream: IO[bytes]) -> Iterator[_Array]:
    """The single array in a file, its header checked against the file's length."""
    stream.seek(0)
    if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
        yield _checked(stream, stream.seek(0, os.SEEK_END))
        return
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
            if len(names) != 1:
                few = ", ".join(name.removesuffix(".npy") for name in names[:_SHOWN])
                raise DataError(f"it holds {len(names)} arrays ({few}); expected a single one, so save it alone")
            member = archive.getinfo(names[0])
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack all at once
                raise DataError("it is compressed as NumPy does not; write it by numpy.savez or savez_compressed")
            refuse_implausible(member.file_size, member.compress_size)
            with archive.open(member) as values:
                yield _checked(values, member.file_size)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"the archive of arrays cannot be read, it is damaged or incomplete: {error}") from error


def _checked(stream: IO[bytes], size: int) -> _Array:
    # not numpy.load: it would make room for whatever size the header claims
    stream.seek(0)
    head = BytesIO(stream.read(_LONGEST_HEADER))  # NumPy would read whatever length the header claims
    version = npy.read_magic(head)
    if version not in _READERS:
        raise DataError(f"its format has version {version}, which holds no pixels")
    with _PARSING:
        shape, column_major, dtype = _READERS[version](head)
    stream.seek(head.tell())
    if dtype.hasobject:
        raise DataError("it holds Python objects, which are never unpickled; expected numbers")
    wrong = not_an_image(shape)
    if len(shape) not in (2, 3) or 0 in shape or wrong:
        expected = wrong or "expected [height, width] or [height, width, channels]"
        raise DataError(f"its shape is {shape}; {expected}")
    if math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise DataError(f"it is not as long as its shape {shape} says, it is damaged or incomplete")
    return _Array(shape, column_major, dtype, stream)
