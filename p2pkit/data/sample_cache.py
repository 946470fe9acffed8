"""Samples kept on a disk as they have been decoded or drawn, for all processes and later runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL

from p2pkit.contracts import Sample
from p2pkit.data.packed_samples import LAYOUT, packed, unpacked
from p2pkit.errors import P2PKitError, WriteError
from p2pkit.utils.atomic import atomic_write, remove_unfinished
from p2pkit.utils.opening import open_regular
from p2pkit.utils.paths import cache_folder
from p2pkit.utils.progress import print_line

LEFT_FREE = 2**30
"""Bytes of a disk that no cache takes: runs write their checkpoints there, too."""
FORGOTTEN_AFTER_SECONDS = 60 * 86400
"""What no run has used for so long is removed by the next one."""
_CHECKSUM_BYTES = 4
_SETS = re.compile("[0-9a-f]{32}")


@dataclass
class DiskCache:
    """Samples of one set, a file each, in a folder of the user's cache that any number of processes use at once.

    Files appear whole, and each is checked when a process first reads it. They are not synced to the disk, which would
    take longer than decoding: what a power cut spoils has another checksum, and is made anew like whatever is missing.
    They are read, not mapped: the system keeps them in memory once for all processes either way, an error of the disk
    is one that can be caught, and no run is ended by somebody who cuts a file short.
    """

    folder: Path
    _checked: set[str] = field(default_factory=set)
    """The names of files whose checksum was right."""
    _writes: bool = True

    @classmethod
    def of(cls, what: Iterable[str]) -> DiskCache | None:
        """The cache of the set that is known by these texts; None where nobody knows of a cache folder."""
        digest = hashlib.sha256("\0".join([*what, LAYOUT, PIL.__version__]).encode("utf-8", "surrogateescape"))
        if (caches := cache_folder()) is None:
            print_line('NOTICE: loader.cache = "disk": there is no home folder, nor XDG_CACHE_HOME; nothing is kept')
            return None
        folder = caches / "samples" / digest.hexdigest()[:32]
        with suppress(OSError):
            remove_unfinished(list(folder.iterdir()))
            os.utime(folder)
        with suppress(OSError):
            _forget_unused(folder.parent)
        return cls(folder)

    def get(self, index: int, seed: int) -> Sample | None:
        """The sample at ``index``; None where it is not there, or its file is damaged."""
        return self._read(_name(index)) or self._read(_name(index, seed))

    def put(self, index: int, seed: int, sample: Sample, drawn: bool) -> None:
        """Write a sample; what the system does not let be written is said once, and nothing more is written then."""
        if not self._writes:
            return
        content = packed(sample)
        checksum = 0
        for part in content:
            checksum = zlib.crc32(part, checksum)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < LEFT_FREE + sum(len(part) for part in content):
                raise WriteError(f"less than {LEFT_FREE / 1e9:.1f} GB of its disk would be left free")
            file = self.folder / _name(index, seed if drawn else None)
            with atomic_write(file, durable=False) as aside, aside.open("wb") as stream:
                stream.writelines([checksum.to_bytes(_CHECKSUM_BYTES, "little"), *content])
        except (WriteError, OSError) as error:
            self._writes = False
            print_line(
                f'NOTICE: loader.cache = "disk": no more samples are kept in {self.folder}: {error}; those that are '
                "not there are decoded, or drawn, each time"
            )

    def _read(self, name: str) -> Sample | None:
        try:
            with open_regular(self.folder / name) as stream:
                content = np.empty(os.fstat(stream.fileno()).st_size, np.uint8)
                stream.readinto(content.data)
            if name not in self._checked:
                if zlib.crc32(content[_CHECKSUM_BYTES:].data) != int.from_bytes(content[:_CHECKSUM_BYTES], "little"):
                    return None
                self._checked.add(name)
            return unpacked(content[_CHECKSUM_BYTES:])
        except (OSError, P2PKitError, ValueError, KeyError, TypeError):
            return None  # it is not there, cannot be read, or is not what was written


def _name(index: int, seed: int | None = None) -> str:
    return str(index) if seed is None else f"{index}-{seed}"


def _forget_unused(sets: Path) -> None:
    """Remove the samples of sets that no run has used for long."""
    for folder in sets.iterdir():
        is_set = _SETS.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
        if is_set and time.time() - folder.stat().st_mtime > FORGOTTEN_AFTER_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
