"""One shard: a tar whose members are read by their offsets, and never unpacked."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import Sample
from p2pkit.errors import DataError, RecipeError
from p2pkit.images.reading import read_image_bytes
from p2pkit.utils.opening import open_regular
from p2pkit_webdataset.names import key_of, split_name
from p2pkit_webdataset.tar_members import tar_members

SHOWN = 8
"""How many extensions a message lists."""


@dataclass(frozen=True)
class Sides:
    """The extensions of sources, targets and masks: that of a member is one of these, or begins with it and a dot.

    Raises:
        RecipeError: two sides have one, other than a source and the mask, which may be the same member; or two sources
            have one name.
    """

    source: str | tuple[str, ...]
    """Of several sources one each."""
    target: str
    mask: str | None = None

    def __post_init__(self) -> None:
        of_pair = self.names[: len(self.names) - (self.mask is not None)]
        alike = len(set(of_pair)) < len(of_pair) or len(set(self.sources)) < len(self.sources)
        if not self.source or alike or self.mask == self.target:
            raise RecipeError(
                f"data.source, data.target and data.mask name the members {', '.join(self.names)}; each source, the "
                "target and the mask need an extension of their own, but for a mask that is a source too, and several "
                "sources ones that differ before their first dot"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """What several sources are called: what is before the first dot of their extensions; empty of just one."""
        return () if isinstance(self.source, str) else tuple(each.partition(".")[0] for each in self.source)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The extensions of all members of a sample, in its order."""
        sources = (self.source,) if isinstance(self.source, str) else self.source
        return (*sources, self.target, *(() if self.mask is None else (self.mask,)))

    def columns(self, extension: str) -> list[int]:
        """Which of ``names`` a member is; of several that match the longest."""
        names = self.names
        matches = [name for name in names if extension == name or extension.startswith(f"{name}.")]
        longest = max(matches, key=len, default="")
        return [place for place, name in enumerate(names) if matches and name == longest]

    def __str__(self) -> str:
        """For fingerprints."""
        more = f", mask={self.mask!r}" * (self.mask is not None)
        return f"Sides(source={self.source!r}, target={self.target!r}{more})"


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
        images = [
            self._pixels(key, side, offset, size)
            for side, (offset, size) in zip(self._sides.names, self._extents[place].tolist(), strict=True)
        ]
        mask = None if self._sides.mask is None else images.pop()
        *sources, target = images
        several = self._sides.sources
        return Sample(dict(zip(several, sources, strict=True)) if several else sources[0], target, key, mask)

    def _pixels(self, key: str, side: str, offset: int, size: int) -> NDArray[Any]:
        name = f"{self._name}: {key}.{side}"
        if offset < 0:
            all_of = "both of a pair" if len(self._sides.names) == 2 else "all of a sample"
            raise DataError(f"{name}: this member is not there; {all_of} must be, one after the other")
        try:
            data = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise DataError(f"{name}: reading it fails: {error.strerror}") from error
        if len(data) != size:
            raise DataError(f"{name}: the shard has become shorter since it was opened")
        return read_image_bytes(data, name)


Extents = list[list[int]]
"""Offset and size in bytes of each member of a pair, as Sides names them; negative offsets for what is not there."""


def pairs_in(stream: IO[bytes], name: str, sides: Sides) -> Iterator[tuple[str, Extents]]:
    """The key of each pair in a tar, as stored, and where its members lie.

    Raises:
        DataError: the tar is damaged, cut short, or has members that are no plain files, or none that makes a pair.
    """
    extensions: dict[str, None] = {}
    current: str | None = None
    extents: Extents = []
    try:
        for key, extension, info in _members(stream, name):
            columns = sides.columns(extension)
            if not columns:
                if len(extensions) < SHOWN:
                    extensions[extension] = None
                continue
            if key != current:
                if current is not None:
                    yield current, extents
                current, extents = key, [[-1, 0] for _ in sides.names]
            for column in columns:
                if extents[column][0] >= 0:
                    raise DataError(f"{name}: {key} has two members that could be its {sides.names[column]}")
                extents[column] = [info.offset_data, info.size]
    except (tarfile.TarError, ValueError, IndexError, EOFError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: the shard is damaged or cut short ({error}); get it again") from error
    if current is None:
        found = f"there are members ending in .{', .'.join(extensions)}" if extensions else "it is empty"
        looked_for = " or .".join(sides.names)
        raise DataError(
            f"{name}: no member ends in .{looked_for}, with or without more behind; {found}. "
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
        with open_regular(path) as stream:
            return os.dup(stream.fileno())
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such shard") from error
    except OSError as error:
        raise DataError(f"{name}: the shard cannot be opened: {error.strerror}") from error
