"""Unpacking an archive from an untrusted source: all of it or nothing, and nothing outside its folder."""

from __future__ import annotations

import errno
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple, Self, cast

from p2pkit.downloads.lock import locked
from p2pkit.errors import DataError, visible
from p2pkit.utils.atomic import os_errors_described
from p2pkit.utils.opening import limits, over
from p2pkit.utils.progress import Progress

LONGEST_READ = 16 * 2**20
"""How many bytes of a tar may be read into memory at once."""
DEEPEST = 100
"""How deep folders may be nested; each name on the way may be one more folder to make."""
LONGEST_HEADER, MOST_SHARED = 2**18, 100
"""How many bytes a header of a tar may have beside its block, of which tarfile holds some 300 at once, and how many
things a tar may say of all members that follow."""

_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""A second guard behind :func:`_check`, which alone refuses all that it would; Python has it from 3.11.4 on."""

# what tarfile and zipfile let through; RuntimeError is an encrypted zip, the last line a file that is also a folder
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError, IndexError,
    IsADirectoryError, NotADirectoryError, FileExistsError,
)  # fmt: skip


class _Member(NamedTuple):
    name: str
    size: int
    """In bytes, when unpacked."""
    ordinary: bool
    """Whether it is a plain file or a folder."""
    extract: Callable[..., object]


def extract(archive: Path, folder: Path) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .zip as ``folder``, without the one top folder that all members may share.

    ``folder`` appears when all is unpacked. One that is :func:`is_filled` already is kept as is. File modes, owners
    and times are not carried over.

    Raises DataError, and leaves nothing behind, when the archive is missing, damaged or of another kind, has links,
    devices, sparse files or members outside their folder, unpacks to more than the limits unpacked_bytes and
    unpacked_files allow, or when the disk cannot take it.
    """
    if not archive.is_file():
        raise DataError(f"there is no archive {archive}; check the path")
    if not archive.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")):
        raise DataError(f"cannot unpack {archive}: its name must end in .tar, .tar.gz, .tgz or .zip")
    with os_errors_described(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if is_filled(folder):
                return
            unpacking = folder.with_name(folder.name + ".unpacking")
            if unpacking.exists():
                shutil.rmtree(unpacking)
            try:
                unpacking.mkdir()
                with _damage_explained(archive):
                    _unpack(archive, unpacking)
                _put_in_place(archive, unpacking, folder)
            finally:
                shutil.rmtree(unpacking, ignore_errors=True)


def is_filled(folder: Path) -> bool:
    """Whether a folder is there and holds something, but for hidden files such as a Mac puts everywhere."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def _unpack(archive: Path, into: Path) -> None:
    size, written, folders = archive.stat().st_size, 0, set[PurePosixPath]()
    with archive.open("rb") as raw, Progress(f"Unpacking {archive.name}", None, unit="file") as progress:
        members = _zip_members(raw) if archive.suffix.lower() == ".zip" else _tar_members(raw, archive.suffix.lower())
        for count, member in enumerate(members, start=1):
            _check(archive, member)
            written += member.size
            path = PurePosixPath(member.name.replace("\\", "/"))
            if len(path.parts) > DEEPEST:
                raise DataError(f"refusing to unpack {archive}: it nests folders more than {DEEPEST} deep")
            folders.update(path.parents[:-1])  # the last is the folder itself
            for limit, needed in (("unpacked_files", count + len(folders)), ("unpacked_bytes", written)):
                if needed > getattr(limits(), limit):
                    raise DataError(f"refusing to unpack {archive}: at {visible(member.name)}, {over(limit, needed)}")
            member.extract(path=into)
            progress.advance(fraction=raw.tell() / size)


def _put_in_place(archive: Path, unpacked: Path, folder: Path) -> None:
    entries = list(unpacked.iterdir())
    if not entries:
        raise DataError(f"nothing to unpack in {archive}: it is empty; delete it and get it again")
    content = entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked
    if folder.is_dir():
        for hidden in folder.iterdir():
            hidden.replace(content / hidden.name)
        folder.rmdir()  # Windows renames onto no folder, not even an empty one
    content.rename(folder)


def _tar_members(raw: IO[bytes], suffix: str) -> Iterator[_Member]:
    stream = raw if suffix == ".tar" else cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile remembers all it has seen, which is gigabytes
            if len(tar.pax_headers) > MOST_SHARED:
                raise tarfile.ReadError(f"it says more than {MOST_SHARED} things of all its members")
            name, info.name = info.name, info.name.replace("\\", "/")
            ordinary = info.isdir() or (info.isreg() and not info.issparse())
            yield _Member(name, info.size, ordinary, partial(tar.extract, info, set_attrs=False, **_FILTER))
        # a gzip file is checked against its checksum when its end is read
        if len(stream.read(LONGEST_READ)) == LONGEST_READ:
            raise tarfile.ReadError("it continues after its end mark")


class _Header(tarfile.TarInfo):
    """A header that is checked: tarfile takes a damaged one for the end, and reads one of any length into memory."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.size > LONGEST_HEADER and info.type not in tarfile.REGULAR_TYPES:
            raise tarfile.ReadError(f"it has a header of more than {LONGEST_HEADER >> 10} kB")
        return info


def _zip_members(raw: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(raw) as zipped:
        for info in zipped.infolist():
            name, info.filename = info.filename, info.filename.replace("\\", "/")
            ordinary = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
            if info.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):  # others unpack at once, to any size
                raise zipfile.BadZipFile("it is compressed in a rare way; pack it as usual, by deflate")
            # of a member no more is read than the size in its header
            yield _Member(name, info.file_size, ordinary, partial(zipped.extract, info))


def _check(archive: Path, member: _Member) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if not member.ordinary:
        reason = "is a link, a device or a sparse file"
    elif path.is_absolute() or PureWindowsPath(member.name).drive:
        reason = "has an absolute path"
    elif ".." in path.parts:
        reason = "has '..' in its path"
    elif member.size < 0:
        reason = "has a negative size"
    else:
        return
    raise DataError(
        f"refusing to unpack {archive}: its member {member.name!r} {reason}, and only plain files and folders inside "
        f"the archive's own folder are allowed; unpack it by hand if you trust it"
    )


@contextmanager
def _damage_explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # gzip and bz2 raise an OSError without a number, and a wild offset is an invalid argument
        unreadable = isinstance(error, OSError) and error.errno in (None, errno.EINVAL)
        if isinstance(error, DataError) or not (unreadable or isinstance(error, _DAMAGE)):
            raise
        raise DataError(
            f"cannot unpack {archive}: it is damaged, cut short or not what its name says ({visible(str(error))}); "
            f"delete it and get it again"
        ) from error
