"""Shards as data sets: any pair by its index, few shards open at a time."""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from p2pkit.contracts import Sample, Split
from p2pkit.data.discovery import fingerprint_of, refuse_splits_among, split_folder
from p2pkit.downloads.download import Missing
from p2pkit.errors import DataError, RecipeError
from p2pkit.utils.progress import Progress
from p2pkit_webdataset.cache import Cache
from p2pkit_webdataset.index import INDEX, Index, ShardEntry, read_index
from p2pkit_webdataset.shard import Shard, Sides, open_shard, pairs_in

OPEN_SHARDS = 256
"""How many shards are kept open: two for each pair of a batch, up to 128 pairs a process."""


class _Shards:
    """Pairs in shards, whatever opens these. ``written_here`` marks shards of ours: their keys are quoted."""

    def __init__(
        self, index: Index, place: str, descriptor: Callable[[ShardEntry], int], sides: Sides, written_here: bool
    ) -> None:
        entries, self.stored_as, self.planes = index.shards, index.stored_as, index.planes
        self.shards = [entry.pairs for entry in entries]
        self._entries, self._place, self._descriptor = entries, place, descriptor
        self._sides, self._written_here = sides, written_here
        self.notices = _unread(index, sides, place) if written_here and entries else []
        self._ends = list(accumulate(self.shards))
        self._forget_open_shards()

    def __len__(self) -> int:
        return sum(self.shards)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        return self._shard(number).pair(index - (self._ends[number] - self.shards[number]))

    def fingerprint(self) -> str:
        """A digest of the shards' names, sizes and checksums, and of what names sources, targets and masks."""
        entries = [(entry.name, entry.pairs, entry.size, entry.sha256) for entry in self._entries]
        return hashlib.sha256(f"({self._sides}, {entries})".encode()).hexdigest()[:16]

    def _shard(self, number: int) -> Shard:
        with self._lock:
            shard = self._open.pop(number, None) or self._opened(self._entries[number])
            self._open[number] = shard  # the last one is the one used last
            if len(self._open) > OPEN_SHARDS:
                del self._open[next(iter(self._open))]
        return shard

    def _opened(self, entry: ShardEntry) -> Shard:
        name = f"{self._place}/{entry.name}"
        shard = Shard(self._descriptor(entry), name, self._sides, self._written_here)
        if (len(shard), shard.size) != (entry.pairs, entry.size):
            raise DataError(
                f"{name}: it has {len(shard)} pairs in {shard.size} bytes, expected {entry.pairs} in {entry.size}: it "
                "has changed, or is not all there; get it again"
            )
        return shard

    def _forget_open_shards(self) -> None:
        self._open: dict[int, Shard] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # to a worker that is not forked: it opens shards of its own
        return {name: value for name, value in vars(self).items() if name not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_open_shards()


class WebDataset(_Shards):
    """Pairs in the shards (.tar) of a folder, in WebDataset's format, as `p2pkit data shard` writes them.

    Shards of others work too: without an index (shards.json) all of their headers are read at the start.

    Args:
        root: the folder that holds the folders train, val and test of shards (validation and the like, in any case),
            or shards to train on.
        source: the extension of sources in a shard: KEY.source.png has "source", KEY.jpg has "jpg"; or a list of those
            of several, which are called as these begin, up to a dot.
        target: the extension of targets.
        mask: the extension of masks, if there are some.
    """

    def __init__(
        self, split: Split, root: Path, source: str | list[str] = "source", target: str = "target",
        mask: str | None = None,
    ) -> None:  # fmt: skip
        sides, folder = _sides(source, target, mask), split_folder(root, split)
        indexed = folder is not None and (folder / INDEX).exists()
        index = Index(shards=[])
        if folder is not None:
            indexed_by = folder / INDEX
            index = read_index(indexed_by, str(indexed_by)) if indexed else Index(shards=_scanned(folder, sides))
        place = folder or root
        super().__init__(index, str(place), _FromFolder(place), sides, indexed)
        self.source_files = [place / entry.name for entry in index.shards]

    def fingerprint(self) -> str:
        """A digest of the index as of all shards, and of the files themselves: an index may be of others."""
        return fingerprint_of(Path(self._place), self.source_files, super().fingerprint())


class WebDatasetOverHTTP(_Shards):
    """Pairs in shards on a web server, made by `p2pkit data shard`, each downloaded whole when it is first needed.

    Args:
        url: the address of the folder that was made, http(s).
        cache: the folder that keeps shards; runs and machines with a common disk may share it.
        cache_gigabytes: how much it may hold (of 10^9 bytes); shards opened longest ago are removed for others.
        source: the extension of sources in a shard, or a list of those of several.
        target: the extension of targets.
        mask: the extension of masks, if there are some.
    """

    def __init__(
        self, split: Split, url: str, cache: Path = Path("datasets/shards"),
        cache_gigabytes: Annotated[float, Field(gt=0)] = 20.0, source: str | list[str] = "source",
        target: str = "target", mask: str | None = None,
    ) -> None:  # fmt: skip
        shards, place = Cache(cache, cache_gigabytes), f"{url.rstrip('/')}/{split}"
        index = Index(shards=[])
        try:
            index = shards.index(place)
        except Missing as error:
            if split == "train":
                raise DataError(f"{error}. Over HTTP, shards need the index that p2pkit data shard writes") from error
        for entry in index.shards:
            if entry.sha256 is None:
                raise DataError(f"{place}/{INDEX}: it has no checksum of {entry.name}; over HTTP each shard needs one")
        super().__init__(index, place, _FromServer(place, shards), _sides(source, target, mask), True)


def _sides(source: str | list[str], target: str, mask: str | None) -> Sides:
    return Sides(source if isinstance(source, str) else tuple(source), target, mask)


def _unread(index: Index, sides: Sides, place: str) -> list[str]:
    """A notice on members of shards of ours that the recipe does not name.

    Raises:
        RecipeError: it names others, of shards or for samples with several sources or masks.
    """
    if not index.sources and not index.masks and isinstance(sides.source, str) and sides.mask is None:
        return []  # what is wrong is said where the members are read
    keys = f"data.source = {json.dumps(index.sources or 'source')}" + ', data.mask = "mask"' * index.masks
    named = [name.partition(".")[0] for name in sides.names]
    if wrong := [name for name in named if name not in index.members]:
        raise RecipeError(f"{place}: its shards have no members {', '.join(wrong)}; what they have is read with {keys}")
    unread = [name for name in index.members if name not in named]
    return [f"{place}: its members {', '.join(unread)} are not read; all are with {keys}"] * bool(unread)


class _FromFolder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, entry: ShardEntry) -> int:
        file = self._folder / entry.name
        return open_shard(file, str(file))


class _FromServer:
    def __init__(self, url: str, cache: Cache) -> None:
        self._url, self._cache = url, cache

    def __call__(self, entry: ShardEntry) -> int:
        return self._cache.open(f"{self._url}/{entry.name}", entry)


def _scanned(folder: Path, sides: Sides) -> list[ShardEntry]:
    """The shards of a folder without an index, their pairs counted."""
    files = sorted(file for file in folder.glob("*.tar") if not file.name.startswith("."))
    if not files:
        refuse_splits_among(folder, folder.rglob("*.tar"))
        raise DataError(f"{folder}: it holds neither {INDEX} nor shards (*.tar; compressed ones must be unpacked)")
    entries = []
    with Progress(f"reading the headers in {folder}", len(files), "shard") as progress:
        for file in files:
            with open(open_shard(file, str(file)), "rb") as stream:  # noqa: PTH123 - a descriptor has no path
                pairs = sum(1 for _ in pairs_in(stream, str(file), sides))
            entries.append(ShardEntry(name=file.name, pairs=pairs, size=file.stat().st_size))
            progress.advance()
    return entries
