"""Shards of a web server, kept on this machine as long as there is room, for all processes that read them."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from p2pkit.downloads.download import Missing, Unreachable, download
from p2pkit.downloads.partial import PART, Partial
from p2pkit.errors import DataError, P2PKitError
from p2pkit.utils.atomic import os_errors_described, write_json
from p2pkit.utils.opening import read_regular
from p2pkit.utils.progress import print_line
from p2pkit_webdataset.index import INDEX, LARGEST, Index, ShardEntry, read_index

PAUSES = (1.0, 5.0, 30.0, 60.0)
"""Seconds to wait before a server in trouble is asked again: a run of a day outlives a restart of it."""
ATTEMPTS = 3
"""How often a shard is fetched again that others have removed before it could be opened."""
WRITTEN = "written_here.json"
"""The names of the shards in the folder that were downloaded to it; all others belong to somebody else."""
LONGEST_WAIT = 60
"""Seconds to wait for another process that changes the list."""
LONGEST = 2**26
"""Bytes of that list which are read: some 900,000 names."""
_NAME = re.compile(r"[0-9a-f]{64}\.tar")


class Cache:
    """A folder of whole shards named by their checksums, of which those opened longest ago make room for others.

    It removes what it has downloaded itself, by the list in ``written_here.json``, and nothing else. A
    shard that is being read when it is removed stays readable (POSIX) and takes its space until it is closed.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        self._folder, self._bytes = folder, int(gigabytes * 1e9)

    def open(self, url: str, entry: ShardEntry) -> int:
        """A descriptor of the shard at ``url``, downloaded unless it is here.

        Raises:
            DataError: the server does not give it out, or what comes is not what the index says.
            WriteError: the disk is full or may not be written to.
        """
        assert entry.sha256 is not None
        file = self._folder / f"{entry.sha256}.tar"
        for _ in range(ATTEMPTS):
            with os_errors_described(self._folder), suppress(FileNotFoundError):
                if file.stat().st_size != entry.size:
                    self._remove_spoilt(file)
            if not file.exists():
                with os_errors_described(self._folder):
                    self._make_room(entry.size, file.name)
                self._download(url, file, entry.sha256, entry.size)
            with suppress(FileNotFoundError):
                descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
                with suppress(OSError):  # another user's file, or a folder that is only read
                    os.utime(descriptor)
                return descriptor
        raise DataError(f"{url}: it is removed from {self._folder} as soon as it is there; raise data.cache_gigabytes")

    def index(self, url: str) -> Index:
        """The index of the folder of shards at ``url``, as the server has it now.

        Raises:
            Missing: there is none.
            DataError: it cannot be had, or it cannot be read.
        """
        with TemporaryDirectory() as folder:
            download(f"{url}/{INDEX}", Path(folder) / INDEX, shown=False, most=LARGEST)
            return read_index(Path(folder) / INDEX, f"{url}/{INDEX}")

    def _download(self, url: str, file: Path, sha256: str, size: int) -> None:
        shown = multiprocessing.parent_process() is None  # several workers would tear each other's bars
        for pause in PAUSES:
            try:
                return download(url, file, sha256=sha256, shown=shown, most=size)
            except Missing:
                raise
            except Unreachable:
                time.sleep(pause)
        return download(url, file, sha256=sha256, shown=shown, most=size)

    def _make_room(self, wanted: int, name: str) -> None:
        """Remove shards of ours until another one of ``wanted`` bytes fits, and list that as ours, by its ``name``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._written() as names:
            kept = []
            for file in (self._folder / f"{each}{ending}" for each in names for ending in ("", PART)):
                with suppress(FileNotFoundError):
                    status = file.lstat()
                    kept.append((status.st_mtime_ns, status.st_size, file))
            total = sum(size for _, size, _ in kept)
            for _, size, file in sorted(kept):
                if total + wanted <= self._bytes:
                    break
                if file.name != f"{name}{PART}" and _removed(file):
                    total -= size
                    names.discard(file.name)
            names.add(name)

    def _remove_spoilt(self, file: Path) -> None:
        with self._written() as names:
            if file.name not in names:
                raise DataError(
                    f"{file}: this is not the shard of that checksum, and was not downloaded here; remove it, or set "
                    "data.cache to another folder"
                )
            file.unlink(missing_ok=True)

    @contextmanager
    def _written(self) -> Iterator[set[str]]:
        """The names of the shards that are ours, which are kept as they are at the end; one process at a time."""
        file, held = self._folder / WRITTEN, ExitStack()
        lock = FileLock(self._folder / f".{WRITTEN}.lock", timeout=LONGEST_WAIT)
        with held:
            try:
                held.enter_context(lock)
            except Timeout as error:
                raise DataError(
                    f"{file}: another process has kept it to itself for {LONGEST_WAIT} s, and may have been stopped; "
                    "end that one, or set data.cache to another folder"
                ) from error
            names = _names_in(file)
            before = set(names)
            yield names
            if names != before:
                write_json(file, {"shards": sorted(names)})


def _names_in(file: Path) -> set[str]:
    try:
        names = json.loads(read_regular(file, LONGEST))["shards"]
        if not isinstance(names, list):
            raise TypeError
        return set(filter(_NAME.fullmatch, names))
    except FileNotFoundError:
        return set()
    except P2PKitError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        print_line(f"NOTICE: {file} is damaged: the shards beside it are taken for somebody else's, and stay")
        return set()


def _removed(file: Path) -> bool:
    """Remove a shard, or what there is of one unless somebody is downloading it; whether that has been done."""
    if not file.name.endswith(PART):
        file.unlink(missing_ok=True)
        return True
    lock = FileLock(file.with_name(f"{file.name.removesuffix(PART)}.lock"), blocking=False)
    with suppress(Timeout), lock:
        Partial(file.with_name(file.name.removesuffix(PART))).discard()
        return True
    return False
