"""Shards made of any data set: whole files, the same bytes for the same data, finished later if it was interrupted."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import PairedDataset, Sample, Split
from p2pkit.downloads.lock import locked
from p2pkit.errors import DataError
from p2pkit.images.pixels import stored
from p2pkit.utils.atomic import atomic_write, os_errors_described, remove_unfinished, write_json
from p2pkit.utils.opening import read_regular
from p2pkit.utils.progress import Progress, print_line
from p2pkit_webdataset.index import Index, ShardEntry, digest, write_index
from p2pkit_webdataset.names import member_name
from p2pkit_webdataset.pixels import encode, lost

UNFINISHED, FINISHED = "unfinished.json", "made_of.json"
"""What the shards in a folder are made of, and the checksum of each, as long as some are missing, and then."""
LONGEST = 2**26
"""Bytes of them which are read: some 700,000 shards."""
AT_ONCE = 16
"""Pairs that are encoded together."""
Members = list[tuple[str, bytes]]
Kind = tuple[tuple[str, ...], bool]
"""The names of the sources of samples, none where there is just one, and whether there are masks."""


def make_shards(splits: Mapping[Split, PairedDataset], fingerprint: str, out: Path, pairs_per_shard: int) -> bool:
    """Write each split as a folder of shards with an index; False when all is there already.

    Whole shards of an interrupted attempt are kept. Training pairs are put into shards in random order, the same each
    time; those of val and test keep theirs.

    Raises:
        DataError: ``out`` holds anything else, or a pair cannot be read or written.
        WriteError: the disk is full or may not be written to.
    """
    out = out.absolute()
    with os_errors_described(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out):
            record = _begun(out, f"{fingerprint}, {pairs_per_shard} pairs a shard")
            if record is None:
                return False
            total = sum(len(pairs) for pairs in splits.values())
            with Progress("sharding", total, "pair") as progress, ThreadPoolExecutor(os.cpu_count()) as threads:
                for split, pairs in splits.items():
                    order = _order(split, len(pairs))
                    _make_split(pairs, order, out / split, pairs_per_shard, record, threads, progress)
            (out / UNFINISHED).replace(out / FINISHED)
            for what, images in record.lost.items():
                print_line(f"NOTICE: {images} images lose {what} in shards")
    return True


@dataclass
class _Record:
    """What has been made of which data so far, kept in a file."""

    file: Path
    made_of: str
    checksums: dict[str, str]
    lost: Counter[str] = field(default_factory=Counter)
    """What files say of their pixels that is not in the shards written now, and in how many images."""

    def add(self, shard: Path, checksum: str) -> None:
        """Take note of what a shard is to be."""
        self.checksums[f"{shard.parent.name}/{shard.name}"] = checksum
        self.write()

    def has(self, shard: Path) -> bool:
        """Whether a shard is there, as it was made."""
        made = self.checksums.get(f"{shard.parent.name}/{shard.name}")
        return made is not None and shard.is_file() and digest(shard) == made

    def write(self) -> None:
        """Keep the record."""
        write_json(self.file, {"made_of": self.made_of, "sha256": self.checksums})


def _begun(out: Path, made_of: str) -> _Record | None:
    """The record of an attempt in ``out`` that begins or resumes; None when an earlier one has made all of it."""
    out.mkdir(exist_ok=True)
    if _read(out / FINISHED).get("made_of") == made_of:
        return None
    note = out / UNFINISHED
    begun = _read(note)
    if begun.get("made_of") != made_of and set(out.iterdir()) - set(out.glob(f".{UNFINISHED}.*.part")):
        what = "unfinished shards of other data or of another size" if note.is_file() else "other files"
        raise DataError(f"{out}: it holds {what}; choose another folder with --out, or delete this one")
    record = _Record(note, made_of, begun.get("sha256", {}))
    record.write()
    remove_unfinished([*out.glob(".*.part"), *out.glob("*/.*.part")])
    return record


def _read(note: Path) -> dict[str, Any]:
    try:
        text = read_regular(note, LONGEST)
    except FileNotFoundError:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _order(split: Split, count: int) -> NDArray[np.int64]:
    # neighbours in a shard are often trained on near one another: neighbours in the data must not be neighbours there
    return np.random.default_rng(0).permutation(count) if split == "train" else np.arange(count)


def _make_split(
    pairs: PairedDataset, order: NDArray[np.int64], folder: Path, pairs_per_shard: int, record: _Record,
    threads: ThreadPoolExecutor, progress: Progress,
) -> None:  # fmt: skip
    entries, kind = [], _kind_of(pairs[int(order[0])]) if len(order) else ((), False)
    for number, start in enumerate(range(0, len(order), pairs_per_shard)):
        indices = order[start : start + pairs_per_shard].tolist()
        file = folder / f"shard-{number:06}.tar"
        if record.has(file):
            progress.advance(len(indices))
        else:
            _write_shard(file, _encoded(pairs, indices, kind, threads), record, progress)
        checksum = record.checksums[f"{folder.name}/{file.name}"]
        entries.append(ShardEntry(name=file.name, pairs=len(indices), size=file.stat().st_size, sha256=checksum))
    sources, masks = kind
    stored_as, planes = getattr(pairs, "stored_as", ""), getattr(pairs, "planes", None)
    index = Index(shards=entries, stored_as=stored_as, planes=planes, sources=list(sources), masks=masks)
    write_index(folder, index)


def _write_shard(file: Path, encoded: Iterable[tuple[Members, list[str]]], record: _Record, progress: Progress) -> None:
    names: set[str] = set()
    with atomic_write(file) as aside:
        with tarfile.open(aside, "w") as tar:
            for members, lacking in encoded:
                record.lost.update(lacking)
                for name, content in members:
                    if name in names:
                        raise DataError(f"{file}: two pairs would both be {name}; the keys of a data set must differ")
                    names.add(name)
                    info = tarfile.TarInfo(name)  # of no time and nobody: the same data gives the same bytes
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))
                progress.advance()
        record.add(file, digest(aside))  # before it has its name: what is there under it is always on record


def _encoded(
    pairs: PairedDataset, indices: Sequence[int], kind: Kind, threads: ThreadPoolExecutor
) -> Iterator[tuple[Members, list[str]]]:
    """The files of each pair, and what is not in them of what is said of its pixels."""

    def members(index: int) -> tuple[Members, list[str]]:
        pair = pairs[index]
        if _kind_of(pair) != kind:
            raise DataError(
                f"{pair.key}: its sources have other names than those of the first sample, or only one has a mask"
            )
        images = _images(pair)
        encoded = [(side, *encode(image, pair.key)) for side, image in images.items()]
        files = [(member_name(pair.key, side, ending), content) for side, ending, content in encoded]
        return files, [each for image in images.values() for each in lost(image)]

    # few at a time: all that is encoded waits in memory to be written
    for start in range(0, len(indices), AT_ONCE):
        yield from threads.map(members, indices[start : start + AT_ONCE])


def _kind_of(pair: Sample) -> Kind:
    return tuple(pair.source) if isinstance(pair.source, dict) else (), pair.mask is not None


def _images(pair: Sample) -> dict[str, NDArray[Any]]:
    """The images of a sample by what their members are called.

    Raises:
        DataError: a source has a name that no member can have, or another one has.
    """
    images = dict(pair.source) if isinstance(pair.source, dict) else {"source": pair.source}
    for name in images:
        if not re.fullmatch(r"[^./]+", name) or name == "target":
            raise DataError(
                f"{pair.key}: a source is called {name!r}, which no member of a shard can be; rename it to something "
                'without dots and /, other than "target"'
            )
    images["target"] = pair.target
    if pair.mask is not None:
        if "mask" in images and not np.array_equal(images["mask"], pair.mask):
            raise DataError(f"{pair.key}: a source is called 'mask', as the mask would be in a shard; rename it")
        images["mask"] = _stored_mask(pair.mask)
    return images


def _stored_mask(mask: NDArray[Any]) -> NDArray[Any]:
    """A mask [H, W, 1] of numbers that weigh as much: of bool those of a file of one bit."""
    pixels = mask if mask.ndim == 3 else mask[:, :, None]
    return stored(pixels * np.uint8(255), 1) if pixels.dtype == bool else pixels
