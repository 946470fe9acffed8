"""The members of a tar from an untrusted source, one at a time."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import IO, TypeVar, cast

T = TypeVar("T")
LONGEST_READ = 16 * 2**20


def tar_members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The headers in an uncompressed tar, each with the open tar. Data is skipped by seeking, not read.

    Raises tarfile.ReadError when the tar is damaged or cut short, or has a header that would fill the memory. Damage
    may show only at the end: nothing is known to be whole before it. OSError and the errors of ``stream`` go through.
    """
    guarded = _TarStream(stream)
    with _bounded(lambda: tarfile.open(fileobj=cast(IO[bytes], guarded), mode="r:")) as tar:  # it reads the first one
        while (info := _next(tar)) is not None:
            yield tar, info
    # tarfile takes a damaged header for the end, and leaves it to us to see whether anything comes after the end
    if guarded.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends without an end mark")
    if len(guarded.read(LONGEST_READ)) == LONGEST_READ:
        raise tarfile.ReadError("it continues after its end mark")


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    info = _bounded(tar.next)
    tar.members.clear()  # type: ignore[attr-defined]  # tarfile remembers all it has seen, which would be gigabytes
    if info is not None and info.size < 0:
        raise tarfile.ReadError(f"its member {info.name!r} has a negative size")
    return info


def _bounded(read: Callable[[], T]) -> T:
    try:
        return read()
    except RecursionError as error:
        raise tarfile.ReadError("it has headers of headers without end") from error


class _TarStream:
    """What tarfile reads from: remembers the last read, and refuses headers that would fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > LONGEST_READ:
            raise tarfile.ReadError("it has a header of more than 16 MB")
        self.last = self._stream.read(size)
        return self.last
