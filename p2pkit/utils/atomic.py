"""Files that appear whole or not at all: written aside, synced to disk, then renamed into place."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2pkit.errors import WriteError

_FULL = "free some space there and run the command again"
_FORBIDDEN = "choose a folder that you may write to"
_WHAT_TO_DO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "the file system or a limit of this account does not allow a file of that size; choose another folder",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
}


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Give a path beside ``file`` to write to; rename it to ``file`` at the end, or remove it when something fails.

    Raises:
        WriteError: the disk is full, or writing is not allowed; the message names the file.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    with os_errors_described(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            aside.touch()
            mode = aside.stat().st_mode
            yield aside
            aside.chmod(mode)  # safetensors makes a file of its own, which nobody else may read
            sync(aside)
            aside.replace(file)
            sync(file.parent)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


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
