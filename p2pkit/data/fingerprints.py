"""Fingerprints of files: short texts that change when what the files hold does."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from p2pkit.errors import P2PKitError
from p2pkit.utils.opening import open_regular, patiently
from p2pkit.utils.progress import Progress

BLOCK = 4096
"""Bytes that are looked at in each of a file's three places: its beginning, its middle and its end."""
THREADS = 16
"""Files that are read at once: on a share that is far away, each is waited for."""


def contents(files: Sequence[Path], whole: bool = False) -> Iterator[bytes]:
    """A digest of each file: of its size and of bytes at its beginning, middle and end, or of the ``whole`` file.

    A file that cannot be read has one that says why: whether it is needed is not decided here.
    """
    title = "reading files for the fingerprint" if whole else "looking at files for the fingerprint"
    with ThreadPoolExecutor(THREADS) as pool, Progress(title, len(files), "file", brief=True) as progress:
        for found in pool.map(partial(_content, whole=whole), files):
            yield found
            progress.advance()


def of_named_files(dataset: Any, whole: bool = False) -> str:
    """A digest of the files that a data set names (PairedDataset), as :func:`contents`; empty where there are none."""
    digest = hashlib.sha256()
    files = named_files(dataset)
    for content in contents(files, whole):
        digest.update(content)
    return digest.hexdigest()[:16] if files else ""


def named_files(dataset: Any) -> list[Path]:
    """The files that a data set, or the one it is a part of, says it reads; each once."""
    dataset = getattr(dataset, "whole_set", dataset)
    named = (getattr(dataset, name, None) or () for name in ("source_files", "target_files", "mask_files"))
    return list(dict.fromkeys(map(Path, chain.from_iterable(named))))


def stamp(dataset: Any) -> str:
    """A digest of when the files that a data set names were changed, and of which they are on their disk.

    It is known without reading them, and goes with a machine, not with the data: copies have others.
    """
    digest = hashlib.sha256()
    for file in named_files(dataset):
        try:
            status = file.stat()
            digest.update(b"%d %d %d " % (status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            digest.update(b"- ")
    return digest.hexdigest()[:16]


def _content(file: Path, whole: bool) -> bytes:
    def read() -> bytes:
        with open_regular(file) as stream:
            return _of_whole(stream) if whole else _of_samples(stream)

    try:
        # what may not be read is no error that passes, and there may be thousands of such files
        return patiently(read, file) if os.access(file, os.R_OK) else read()
    except (OSError, P2PKitError) as error:
        return (
            f"cannot be read: {errno.errorcode.get(getattr(error, 'errno', None) or 0, type(error).__name__)}".encode()
        )


def _of_samples(stream: IO[bytes]) -> bytes:
    size = os.fstat(stream.fileno()).st_size
    digest = hashlib.sha256(b"%d " % size)
    for place in sorted({0, max(0, (size - BLOCK) // 2), max(0, size - BLOCK)}):
        stream.seek(place)
        digest.update(stream.read(BLOCK))
    return digest.digest()


def _of_whole(stream: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while block := stream.read(2**20):
        digest.update(block)
    return digest.digest()
