"""Failures put at single operations of the system, as a disk, a share or a limit makes them."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSING = [
    errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN,
    errno.EBUSY, errno.ETIMEDOUT, errno.EREMOTEIO,
]  # fmt: skip
"""What the system says of a file for a moment: rights on a share, a disk, a limit. (Python retries EINTR by itself.)"""
LYING = [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV]
"""What it says of a file that is not there, and may say of one that is."""
WRITING = [
    errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.EACCES, errno.ENOMEM,
    errno.EFBIG, errno.EPERM, errno.EINTR,
]  # fmt: skip
"""What it says when it does not write."""


@contextmanager
def failing_reads(
    first: int, last: int, code: int, among: Callable[[str], bool] = lambda path: True
) -> Iterator[list[str]]:
    """Let the operations of our own reading from ``first`` to ``last``, counted from 1, fail; those that were made."""
    made: list[str] = []

    def count(operation: str, path: object) -> None:
        if among(str(path)):
            made.append(f"{operation} {path}")
            if first <= len(made) <= last:
                raise OSError(code, os.strerror(code), str(path))

    class Raw(io.FileIO):
        """A file whose every read may fail."""

        path: object = ""

        def readinto(self, buffer: Any) -> int:
            count("read", self.path)
            return super().readinto(buffer)

        def readall(self) -> bytes:
            count("read", self.path)
            return super().readall()

    real = os.open

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        count("open", path)
        return real(path, *arguments, **options)

    def stream(path: object, mode: str, opener: Any = None) -> Any:
        raw = Raw(path, mode, opener=opener)
        raw.path = path
        return io.BufferedReader(raw, 2**16)

    def listed(path: Any) -> Any:
        count("list", path)
        return scandir(path)

    scandir = os.scandir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2pkit.utils.opening.PAUSES", (0.0, 0.0, 0.0))
        patch.setattr("p2pkit.utils.opening.open", stream, raising=False)
        patch.setattr("p2pkit.utils.opening.os.open", opened)
        patch.setattr("p2pkit.utils.opening.os.scandir", listed)
        yield made


@contextmanager
def failing_writes(number: int, code: int, only: str = "") -> Iterator[list[str]]:
    """Let one operation that changes files fail, counted from 1 among those named ``only``; those that were made."""
    made: list[str] = []

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            if only in ("", name):
                made.append(name)
            if len(made) == number and only in ("", name):
                raise OSError(code, os.strerror(code))
            return original(*arguments, **options)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for place, names in CHANGING.items():
            for name in names:
                patch.setattr(place, name, wrapped(name, getattr(place, name)))
        patch.setattr("p2pkit.utils.jsonl.open", wrapped("open", open), raising=False)
        patch.setattr("safetensors.torch.save_file", wrapped("save_file", saving()))
        patch.setattr("p2pkit.training.checkpoint.save_file", wrapped("save_file", saving()))
        yield made


def saving() -> Callable[..., Any]:
    from safetensors.torch import save_file

    return save_file


CHANGING: Mapping[Any, tuple[str, ...]] = {
    Path: ("mkdir", "replace", "open", "write_text", "write_bytes", "touch", "chmod", "unlink"),
    os: ("fsync",),
}
"""The operations on files that changes are made of."""


def snapshot(run: Path) -> dict[str, bytes]:
    """The files of a run by their names, without what every start writes."""
    return {
        str(file.relative_to(run)): file.read_bytes()
        for file in run.rglob("*")
        if file.is_file() and file.name not in ("environment.json", "report.html", "status.json", ".lock", ".owner")
    }
