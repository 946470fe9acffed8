"""Shards made of any data set: whole files, the same bytes for the same data, finished later if it was interrupted."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pkit.archives.lock import locked
from p2pkit.contracts import PairedDataset, Split
from p2pkit.errors import DataError
from p2pkit.progress import Progress
from p2pkit.storage import naming_failures, write_text, written_aside
from p2pkit_webdataset.index import ShardEntry, digest, write_index
from p2pkit_webdataset.names import member_name
from p2pkit_webdataset.pixels import encode

UNFINISHED = "unfinished.txt"
"""What the shards in a folder are made of, as long as some are missing."""
AT_ONCE = 16
"""Pairs that are encoded together."""
Members = list[tuple[str, bytes]]


def make_shards(splits: Mapping[Split, PairedDataset], fingerprint: str, out: Path, pairs_per_shard: int) -> None:
    """Write each split as a folder of shards with an index. Shards of an interrupted attempt are kept as they are.

    Training pairs are put into shards in random order, the same each time; held-out pairs keep theirs.

    Raises:
        DataError: ``out`` holds anything else, or a pair cannot be read or written.
        WriteError: the disk is full or may not be written to.
    """
    out = out.absolute()
    with naming_failures(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out):
            _begin(out, f"{fingerprint}, {pairs_per_shard} pairs a shard\n")
            total = sum(len(pairs) for pairs in splits.values())
            with Progress("sharding", total, "pair") as progress, ThreadPoolExecutor(os.cpu_count()) as threads:
                for split, pairs in splits.items():
                    _make_split(pairs, _order(split, len(pairs)), out / split, pairs_per_shard, threads, progress)
            (out / UNFINISHED).unlink()


def _begin(out: Path, made_of: str) -> None:
    note = out / UNFINISHED
    out.mkdir(exist_ok=True)
    begun = note.is_file() and note.read_text(encoding="utf-8") == made_of
    if not begun and set(out.iterdir()) - set(out.glob(f".{UNFINISHED}.*.part")):
        what = "unfinished shards of other data or of another size" if note.is_file() else "other files"
        raise DataError(f"{out}: it holds {what}; choose another folder with --out, or delete this one")
    write_text(note, made_of)
    for left_by_a_kill in (*out.glob(".*.part"), *out.glob("*/.*.part")):
        left_by_a_kill.unlink()


def _order(split: Split, count: int) -> NDArray[np.int64]:
    # neighbours in a shard are often trained on near one another: neighbours in the data must not be neighbours there
    return np.random.default_rng(0).permutation(count) if split == "train" else np.arange(count)


def _make_split(
    pairs: PairedDataset, order: NDArray[np.int64], folder: Path, pairs_per_shard: int, threads: ThreadPoolExecutor,
    progress: Progress,
) -> None:  # fmt: skip
    entries = []
    for number, start in enumerate(range(0, len(order), pairs_per_shard)):
        indices = order[start : start + pairs_per_shard].tolist()
        file = folder / f"shard-{number:06}.tar"
        if file.exists():
            progress.advance(len(indices))
        else:
            _write_shard(file, pairs, indices, threads, progress)
        entries.append(ShardEntry(name=file.name, pairs=len(indices), size=file.stat().st_size, sha256=digest(file)))
    write_index(folder, entries)


def _write_shard(
    file: Path, pairs: PairedDataset, indices: Sequence[int], threads: ThreadPoolExecutor, progress: Progress
) -> None:
    names: set[str] = set()
    with written_aside(file) as aside, tarfile.open(aside, "w") as tar:
        for members in _encoded(pairs, indices, threads):
            for name, content in members:
                if name in names:
                    raise DataError(f"{file}: two pairs would both be {name}; the keys of a data set must differ")
                names.add(name)
                info = tarfile.TarInfo(name)  # of no time and nobody: the same data gives the same bytes
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
            progress.advance()


def _encoded(pairs: PairedDataset, indices: Sequence[int], threads: ThreadPoolExecutor) -> Iterator[Members]:
    def members(index: int) -> Members:
        pair = pairs[index]
        encoded = [(side, *encode(getattr(pair, side), pair.key)) for side in ("source", "target")]
        return [(member_name(pair.key, side, ending), content) for side, ending, content in encoded]

    # few at a time: all that is encoded waits in memory to be written
    for start in range(0, len(indices), AT_ONCE):
        yield from threads.map(members, indices[start : start + AT_ONCE])
