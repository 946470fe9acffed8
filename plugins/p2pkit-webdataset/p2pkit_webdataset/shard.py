"""One shard: a tar whose members are read by their offsets, and never unpacked."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import Sample
from p2pkit.errors import DataError
from p2pkit.images.reading import read_image_bytes
from p2pkit_webdataset.names import key_of, split_name
from p2pkit_webdataset.tar_members import tar_members

SHOWN = 8
"""How many extensions a message lists."""


class Sides(NamedTuple):
    """The extensions of sources and of targets: that of a member is one of these, or begins with it and a dot."""

    source: str
    target: str

    def column(self, extension: str) -> int | None:
        """0 for a source, 1 for a target, None for what is neither."""
        matches = [extension == side or extension.startswith(f"{side}.") for side in self]
        return matches.index(True) if any(matches) else None


class Shard:
    """An open shard: where its pairs lie is in memory (some 60 bytes a pair), the pairs are read when asked for.

    It may be read by several threads at once, and by processes forked from this one: nothing moves a file position.
    """

    def __init__(self, descriptor: int, name: str, sides: Sides, quoted: bool) -> None:
        self._descriptor, self._name, self._sides, self._quoted = descriptor, name, sides, quoted
        self.size = os.fstat(descriptor).st_size
        """In bytes."""
        with open(os.dup(descriptor), "rb") as stream:  # noqa: PTH123 - a descriptor has no path
            found = list(pairs_in(stream, name, sides))
        self._keys = np.array([key.encode(errors="surrogateescape") for key, _ in found])
        self._extents = np.array([extents for _, extents in found], dtype=np.int64)

    def __del__(self) -> None:
        # not before the last reader has gone; a file that was deleted meanwhile goes with it
        os.close(self._descriptor)

    def __len__(self) -> int:
        return len(self._keys)

    def pair(self, place: int) -> Sample:
        """The pair at a place; raises DataError naming shard, key and member."""
        stored = self._keys[place].decode(errors="surrogateescape")
        key = key_of(stored) if self._quoted else stored
        source, target = (
            self._pixels(key, side, offset, size)
            for side, (offset, size) in zip(self._sides, self._extents[place].tolist(), strict=True)
        )
        return Sample(source, target, key)

    def _pixels(self, key: str, side: str, offset: int, size: int) -> NDArray[Any]:
        name = f"{self._name}: {key}.{side}"
        if offset < 0:
            raise DataError(f"{name}: this member is not there; both of a pair must be, one after the other")
        try:
            data = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise DataError(f"{name}: reading it fails: {error.strerror}") from error
        if len(data) != size:
            raise DataError(f"{name}: the shard has become shorter since it was opened")
        return read_image_bytes(data, name)


Extents = list[list[int]]
"""Offset and size in bytes of a pair's source, then of its target; negative offsets for what is not there."""


def pairs_in(stream: IO[bytes], name: str, sides: Sides) -> Iterator[tuple[str, Extents]]:
    """The key of each pair in a tar, as stored, and where its two members lie.

    Raises:
        DataError: the tar is damaged, cut short, or has members that are no plain files, or none that makes a pair.
    """
    extensions: dict[str, None] = {}
    current: str | None = None
    extents: Extents = []
    try:
        for key, extension, info in _members(stream, name):
            column = sides.column(extension)
            if column is None:
                if len(extensions) < SHOWN:
                    extensions[extension] = None
                continue
            if key != current:
                if current is not None:
                    yield current, extents
                current, extents = key, [[-1, 0], [-1, 0]]
            if extents[column][0] >= 0:
                raise DataError(f"{name}: {key} has two members that could be its {sides[column]}")
            extents[column] = [info.offset_data, info.size]
    except (tarfile.TarError, ValueError, IndexError, EOFError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: the shard is damaged or cut short ({error}); get it again") from error
    if current is None:
        found = f"there are members ending in .{', .'.join(extensions)}" if extensions else "it is empty"
        raise DataError(
            f"{name}: no member ends in .{sides.source} or .{sides.target}, with or without more behind; {found}. "
            "Set data.source and data.target"
        )
    yield current, extents


def _members(stream: IO[bytes], name: str) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    for _, info in tar_members(stream):
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise DataError(f"{name}: refused, its member {info.name!r} is a link, a device or sparse, no plain file")
        parts = split_name(info.name)
        if parts is not None:
            yield *parts, info


def open_shard(path: Path, name: str) -> int:
    """A descriptor of a shard's file.

    Raises:
        DataError: it is not there or may not be read; the message names it as ``name``.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such shard") from error
    except OSError as error:
        raise DataError(f"{name}: the shard cannot be opened: {error.strerror}") from error
