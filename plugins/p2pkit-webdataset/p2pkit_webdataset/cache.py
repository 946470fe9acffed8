"""Shards of a web server, kept on this machine as long as there is room, for all processes that read them."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from p2pkit.downloads.download import Missing, Unreachable, download
from p2pkit.errors import DataError
from p2pkit.utils.atomic import os_errors_described
from p2pkit_webdataset.index import INDEX, LARGEST, Index, ShardEntry, read_index

PAUSES = (1.0, 5.0, 30.0, 60.0)
"""Seconds to wait before a server in trouble is asked again: a run of a day outlives a restart of it."""
ATTEMPTS = 3
"""How often a shard is fetched again that others have removed before it could be opened."""


class Cache:
    """A folder of whole shards named by their checksums, of which those opened longest ago make room for others.

    A shard that is being read when it is removed stays readable (POSIX) and takes its space until it is closed.
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
                    file.unlink()  # somebody has spoilt it
            if not file.exists():
                with os_errors_described(self._folder):
                    self._make_room(entry.size)
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

    def _make_room(self, wanted: int) -> None:
        kept = []
        for file in self._folder.glob("*.tar"):
            with suppress(FileNotFoundError):  # another process makes room too
                status = file.stat()
                kept.append((status.st_mtime_ns, status.st_size, file))
        total = sum(size for _, size, _ in kept)
        for _, size, file in sorted(kept):
            if total + wanted <= self._bytes:
                return
            file.unlink(missing_ok=True)
            total -= size
