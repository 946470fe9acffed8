"""Unpacking an archive that nobody vouches for: all of it or nothing, and nothing outside its folder."""

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
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from p2pkit.downloads.lock import locked
from p2pkit.downloads.tar import tar_members
from p2pkit.errors import DataError
from p2pkit.utils.atomic import naming_failures
from p2pkit.utils.progress import Progress

BLOCK_BYTES = 2**20

# what tarfile and zipfile let through; RuntimeError is an encrypted zip, the last line a file that is also a folder
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError, IndexError,
    IsADirectoryError, NotADirectoryError, FileExistsError,
)  # fmt: skip

Member = tuple[PurePosixPath, IO[bytes] | None]
"""Where a member goes, and what is in it (None for a folder)."""


def extract(archive: Path, folder: Path, max_bytes: int = 64 * 2**30, max_members: int = 2_000_000) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .zip as ``folder``, without the one top folder that all members may share.

    ``folder`` appears when all is unpacked. One that is there already and not empty is kept as is. File modes, owners
    and times are not carried over.

    Raises DataError, and leaves nothing behind, when the archive is missing, damaged or of another kind, has links,
    devices or members outside their folder, unpacks to more than ``max_bytes`` bytes or ``max_members`` members, or
    when the disk cannot take it.
    """
    members = _reader(archive)
    with naming_failures(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if folder.is_dir() and any(folder.iterdir()):
                return
            unpacking = folder.with_name(folder.name + ".unpacking")
            if unpacking.exists():
                shutil.rmtree(unpacking)
            try:
                with _damage_explained(archive), archive.open("rb") as raw:
                    _unpack(archive, members(archive, raw, unpacking), unpacking, raw, max_bytes, max_members)
                _put_in_place(archive, unpacking, folder)
            finally:
                shutil.rmtree(unpacking, ignore_errors=True)


def _reader(archive: Path) -> Callable[[Path, IO[bytes], Path], Iterator[Member]]:
    if not archive.is_file():
        raise DataError(f"there is no archive {archive}; check the path")
    name = archive.name.lower()
    if name.endswith(".zip"):
        return _zip_members
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return _tar_members
    raise DataError(f"cannot unpack {archive}: its name must end in .tar, .tar.gz, .tgz or .zip")


def _unpack(
    archive: Path, members: Iterator[Member], into: Path, raw: IO[bytes], max_bytes: int, max_members: int
) -> None:
    into.mkdir()
    size = archive.stat().st_size
    written = 0
    with Progress(f"Unpacking {archive.name}", None, unit="files") as progress:
        for count, (path, content) in enumerate(members, start=1):
            if count > max_members:
                raise DataError(f"refusing to unpack {archive}: at {path} it has more than {max_members} members")
            if content is None:
                (into / path).mkdir(parents=True, exist_ok=True)
                continue
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            with content, (into / path).open("wb") as out:
                # what comes out is counted: sizes in headers may lie
                while block := content.read(BLOCK_BYTES):
                    written += len(block)
                    if written > max_bytes:
                        raise DataError(f"refusing to unpack {archive}: at {path} it exceeds {max_bytes} bytes")
                    out.write(block)
            progress.advance(fraction=raw.tell() / size)


def _put_in_place(archive: Path, unpacked: Path, folder: Path) -> None:
    entries = list(unpacked.iterdir())
    if not entries:
        raise DataError(f"nothing to unpack in {archive}: it is empty")
    if folder.is_dir():
        folder.rmdir()  # Windows renames onto no folder, not even an empty one
    only = len(entries) == 1 and entries[0].is_dir()
    (entries[0] if only else unpacked).rename(folder)


def _tar_members(archive: Path, raw: IO[bytes], into: Path) -> Iterator[Member]:
    plain = archive.suffix.lower() == ".tar"
    stream = raw if plain else cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    # its last read goes past the end, so the checksum of a gzip file is looked at too
    for tar, info in tar_members(stream):
        path = _safe_path(archive, info.name, _kind_in_tar(info))
        fenced = tarfile.data_filter(info, str(into))
        yield path, tar.extractfile(fenced)


def _zip_members(archive: Path, raw: IO[bytes], into: Path) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as zipped:
        for info in zipped.infolist():
            path = _safe_path(archive, info.filename, _kind_in_zip(info))
            yield path, None if info.is_dir() else zipped.open(info)


def _safe_path(archive: Path, name: str, refused_kind: str | None) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if refused_kind is not None:
        reason = f"is {refused_kind}"
    elif path.is_absolute() or PureWindowsPath(name).drive:
        reason = "has an absolute path"
    elif ".." in path.parts:
        reason = "has '..' in its path"
    else:
        return path
    raise DataError(
        f"refusing to unpack {archive}: its member {name!r} {reason}, and only plain files and folders inside the "
        f"archive's own folder are allowed; unpack it by hand if you trust it"
    )


def _kind_in_tar(info: tarfile.TarInfo) -> str | None:
    if info.isfile() or info.isdir():
        return None
    if info.issym():
        return "a symbolic link"
    if info.islnk():
        return "a hard link"
    return "a device or a special file"


def _kind_in_zip(info: zipfile.ZipInfo) -> str | None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR):
        return None
    return "a symbolic link" if stat.S_ISLNK(mode) else "a device or a special file"


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
            f"cannot unpack {archive}: it is damaged, cut short or not what its name says ({error}); "
            f"delete it and get it again"
        ) from error
