"""Files opened for reading: regular ones alone, and patiently, since a share that fails for a moment is no damage."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from p2pkit.errors import DataError, P2PKitError

T = TypeVar("T")
PAUSES = (0.1, 0.4, 1.5)
"""Seconds to wait before a read that has failed for a moment is tried again."""
LASTING = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.ENODEV,
})  # fmt: skip
"""Errors of the system that waiting does not mend: the file is not there, or is none."""
_KINDS = (
    (stat.S_ISFIFO, "a FIFO (a named pipe)"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)  # fmt: skip


class IrregularFile(DataError):  # noqa: N818 - named for what it says of the file
    """A FIFO, a device or a socket, whose reading may never end."""


class ReadError(P2PKitError):
    """The system does not let a file be read now, although nothing is wrong with what is in it."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, at once.

    Raises:
        IrregularFile: it is a FIFO, a device or a socket.
        OSError: it cannot be opened; IsADirectoryError for a folder.
    """
    return open(path, "rb", opener=_descriptor)


def _descriptor(path: str, flags: int) -> int:
    refuse_irregular(path, os.stat(path).st_mode)  # noqa: PTH116 - of what links lead to; opening a device may do harm
    # without O_NONBLOCK opening a FIFO waits for somebody who writes
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        refuse_irregular(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_irregular(path: str | Path, mode: int) -> None:
    """Raise IrregularFile for the ``mode`` of a FIFO, a device or a socket; IsADirectoryError for a folder's."""
    for is_kind, called in _KINDS:
        if is_kind(mode):
            raise IrregularFile(f"{path}: this is {called}; expected a regular file")
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def patiently(read: Callable[[], T], path: Path) -> T:
    """What ``read`` gives, tried again where the system fails for a moment.

    Raises:
        ReadError: the system still fails: no permission, an I/O error, a stale handle, too many open files, no memory.
        OSError: what waiting does not mend (``LASTING``).
    """
    for pause in (*PAUSES, None):
        try:
            return read()
        except OSError as error:
            if error.errno is None or error.errno in LASTING:
                error.filename = error.filename or str(path)
                raise
            if pause is None:
                raise ReadError(
                    f"cannot read {path}: {os.strerror(error.errno)}; nothing has been changed. Once it can be read, "
                    "run the command again"
                ) from error
            time.sleep(pause)
    raise AssertionError


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The bytes of a regular file, read patiently; no more than ``most`` and one, by which the caller sees the rest.

    Raises: as :func:`open_regular` and :func:`patiently`.
    """

    def read() -> bytes:
        with open_regular(path) as stream:
            return stream.read() if most is None else stream.read(most + 1)

    return patiently(read, path)


def is_listed(path: Path) -> bool:
    """Whether its folder lists a path as a regular file, whatever opening it has said. Raises as :func:`patiently`."""

    def read() -> bool:
        with os.scandir(path.parent) as found:
            return any(entry.name == path.name and entry.is_file() for entry in found)

    return patiently(read, path.parent)


def folders_in(parent: Path) -> list[Path]:
    """The folders in a folder, in any order; none where it is not there. Raises as :func:`patiently`."""

    def read() -> list[Path]:
        with os.scandir(parent) as found:
            return [Path(entry.path) for entry in found if entry.is_dir()]

    try:
        return patiently(read, parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
