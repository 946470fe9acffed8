"""Files that appear whole or not at all: written aside, synced to disk, then renamed into place."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from p2pkit.errors import WriteError

try:
    import fcntl
except ImportError:  # Windows, which removes no file that is open
    fcntl = None  # type: ignore[assignment]

_FULL = "free some space there and run the command again"
_FORBIDDEN = "choose a folder that you may write to"
_WHAT_TO_DO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "the file system or a limit of this account does not allow a file of that size; choose another folder",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.EISDIR: "give the name of a file",
    errno.ELOOP: "a link lies there, and nothing is written where links lead; remove it",
}
UNFINISHED = re.compile(r"\..+\.[0-9a-f]+\.part")
"""The names of what is not whole yet, or has been left so by a kill."""


@contextmanager
def atomic_write(file: Path, durable: bool = True) -> Iterator[Path]:
    """Give a path beside ``file`` to write to; rename it to ``file`` at the end, or remove it when something fails.

    What is not ``durable`` may be other bytes after a power cut: it is not synced to the disk.

    Raises:
        WriteError: the disk is full, writing is not allowed, or a folder is there; the message names the file.
    """
    with os_errors_described(file), ExitStack() as held:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        aside = unfinished(file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            claim = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
            held.callback(os.close, claim)
            with suppress(OSError):  # a file system without locks
                if fcntl is not None:
                    fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mode = os.fstat(claim).st_mode
            yield aside
            aside.chmod(mode)  # safetensors makes a file of its own, which nobody else may read
            if durable:
                sync(aside)
            held.close()  # Windows renames no open file
            aside.replace(file)
            if durable:
                sync(file.parent)
        except BaseException:
            held.close()
            with suppress(OSError):  # what fails now must not hide what has failed before
                aside.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Give a new folder to put all of ``names`` into; it becomes ``folder`` at the end, or goes when something fails.

    In a folder that is there, each takes the place of the one that was there, and what else is there stays.

    Raises:
        WriteError: the disk is full, writing is not allowed, or another folder is there; the message names it.
    """
    names = list(names)
    refuse_other_folder(folder, names)
    with os_errors_described(folder):
        place = folder.resolve()  # "." has no name, and links stay
        # within a folder that is there, which may be a file system of its own
        with folder_aside(place / "new" if place.is_dir() else place) as aside:
            yield aside
            for path in [*aside.rglob("*"), aside]:
                sync(path)
            if place.is_dir():
                _put_into(place, aside, names)
                aside.rmdir()
                sync(place)
            else:
                aside.replace(place)
                sync(place.parent)


@contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """Make a folder beside ``folder``, to be renamed to it when it is whole; it goes when something fails."""
    aside = unfinished(folder)
    try:
        aside.mkdir(parents=True)
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _put_into(folder: Path, new: Path, names: Sequence[str]) -> None:
    """Move ``names`` from ``new`` into a folder, in the place of those there, which come back when something fails."""
    former = {name: unfinished(folder / name) for name in names if (folder / name).exists()}
    moved = list[str]()
    try:
        for name, kept in former.items():
            (folder / name).replace(kept)
        for name in names:
            (new / name).replace(folder / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            (folder / name).replace(new / name)
        for name, kept in former.items():
            if kept.exists():
                kept.replace(folder / name)
        raise
    remove_unfinished([path for path in folder.iterdir() if path != new])


def refuse_other_folder(folder: Path, names: Iterable[str]) -> None:
    """Raise WriteError unless ``folder`` can be written: it is not there, is empty, or has all of ``names`` already.

    What a kill has left under names of :func:`unfinished` does not count, but as what was moved aside to be replaced.
    """
    with os_errors_described(folder):
        if folder.exists() and not folder.is_dir():
            raise WriteError(f"cannot write {folder}: a file is there, and this becomes a folder; give another name")
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
        left = {name for name in found if UNFINISHED.fullmatch(name)}
        there = found | {name[1:].rsplit(".", 2)[0] for name in left}
        if found - left and not there.issuperset(names):
            raise WriteError(f"cannot write {folder}: there is something else in that folder; name a new one")


class _Enough(Exception):  # noqa: N818 - no error
    """Ends what was begun, which is then removed."""


def refuse_unwritable(file: Path) -> None:
    """Raise WriteError where ``file`` cannot be written, before the long work whose result it is to hold."""
    with suppress(_Enough), atomic_write(file):
        raise _Enough


def refuse_replacing(file: Path, read: Iterable[Path]) -> None:
    """Raise WriteError where a ``file`` that a user wants written would take the place of what is to stay.

    That is one of those that the command has ``read``, or no regular file, such as /dev/null, which root may replace.
    """
    if (file.exists() and not file.is_file() and not file.is_dir()) or file.parent == Path("/dev"):
        raise WriteError(f"cannot write {file}: a device, FIFO or socket is there, no file; give another name")
    for one in read:
        with suppress(OSError):  # one of them is not there
            if file.samefile(one):
                raise WriteError(f"cannot write {file}: it is what is read, and would be gone; give another name")


def unfinished(path: Path) -> Path:
    """A path beside ``path`` for what is to be renamed to it when it is whole; no two are alike.

    Processes in containers may share their ids, so it goes by none.
    """
    return path.with_name(f".{path.name}.{token_hex(4)}.part")


def remove_unfinished(found: Iterable[Path]) -> None:
    """Remove what a kill has left of the ``found`` files and folders under names of :func:`unfinished`.

    A file that a process is writing now stays, and so does whatever is called otherwise.
    """
    for left in found:
        if not UNFINISHED.fullmatch(left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        elif not is_locked(left):
            left.unlink(missing_ok=True)


def is_locked(file: Path) -> bool | None:
    """Whether a process holds a lock on ``file``, which a kill lets go; None where that cannot be seen (Windows).

    On a file that is not there nobody does.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EPERM)  # somebody else's
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
    return None if fcntl is None else False


@contextmanager
def os_errors_described(path: Path) -> Iterator[None]:
    """Turn whatever the system refuses in the body into a WriteError that names ``path`` and says what to do."""
    try:
        yield
    except Exception as error:
        code = _error_number(error)
        if code is None:
            raise
        advice = _WHAT_TO_DO.get(code, "check that path and its disk")
        named = getattr(error, "filename", None)
        # what is written aside is hidden: nobody has heard of it
        where = named if named and not any(part.startswith(".") for part in Path(named).parts) else path
        raise WriteError(f"cannot write {where}: {os.strerror(code)}; {advice}") from error


def _error_number(error: Exception) -> int | None:
    """The system's error number behind an exception, also where we or a library have wrapped it in one of our own."""
    if isinstance(error, WriteError) and isinstance(error.__cause__, Exception):
        return _error_number(error.__cause__)
    if isinstance(error, OSError):
        # NumPy, by which tifffile writes, says how much of it was written, and not why no more
        return errno.ENOSPC if error.errno is None and "requested and" in str(error) else error.errno
    # safetensors has it in the text alone: "... (os error 28)"
    wrapped = re.search(r"\(os error (\d+)\)", str(error))
    return int(wrapped[1]) if wrapped else None


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write ``text``, whole or not at all."""
    with atomic_write(file) as aside:
        aside.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Make durable what has been written to a file, or the names in a folder, where the system can."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
