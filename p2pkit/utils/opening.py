"""What others have written, opened and read: regular files alone, patiently, and within limits on what they may cost.

``p2pkit --limit NAME=VALUE`` raises a limit for a command and its workers. Limits are kept in the environment, from
where the processes that a command starts have them too.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from p2pkit.errors import DataError, P2PKitError, did_you_mean

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
VARIABLE = "P2PKIT_LIMITS"
"""The variable of the environment that holds what is set, "image_bytes=64GB image_pages=100000"."""
_UNITS = {"": 1, "k": 10**3, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_VALUE = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)
DEEPEST = 32
"""How deep tables and lists of TOML may be nested. What parses them takes the square of that in time, and recurses."""
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_TOO_DEEP = re.compile(rf"^[ \t]*+\[{{0,2}}[ \t]*+{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST}}}", re.MULTILINE)
"""A key, or the header of a table, of too many parts."""


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
    return open(path, "rb", opener=regular_descriptor)


def regular_descriptor(path: str, flags: int) -> int:
    """Open a regular file by the ``flags`` of os.open, for ``open(..., opener=)``; raises as :func:`open_regular`."""
    if not flags & os.O_CREAT:
        refuse_irregular(path, os.stat(path).st_mode)  # noqa: PTH116 - of what links lead to; opening a device may harm
    # without O_NONBLOCK opening a FIFO waits for somebody who writes
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
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
            if error.errno is None:  # of a library's own, which a name would take the text from
                raise
            if error.errno in LASTING:
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
        with open(path, "rb", opener=regular_descriptor) as stream:
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


class LimitError(P2PKitError):
    """A limit is set to what is none."""


@dataclass(frozen=True)
class Limits:
    """The limits and what they are unless they are set. Those in bytes are named so; the others are counts."""

    image_bytes: int = 2**30
    """What the pixels of an image or a volume may take, where that is more than 200 times its file."""
    image_pages: int = 10_000
    """How many pages of a TIFF, or frames of a DICOM file, are looked at."""
    jpeg_scans: int = 100
    """How many scans a progressive JPEG may be made of; each takes as long as its whole image."""
    recipe_bytes: int = 2 * 10**6
    """What a recipe may take, together with those that it extends."""
    recipe_keys: int = 5_000
    """How many keys and tables a recipe file may have; the values in a list are none."""
    list_bytes: int = 256 * 10**6
    """What a text may take that lists the files of a data set."""
    download_bytes: int = 2**36
    """What one file may take that is downloaded, whatever an index says that its size is."""
    unpacked_bytes: int = 2**36
    """What the files in an archive may take."""
    unpacked_files: int = 2_000_000
    """How many files and folders an archive may have."""
    header_bytes: int = 10_000_000
    """What the header of a model file, or of a file of a checkpoint, may take: names of tensors, the recipe."""
    network_bytes: int = 2**28
    """What the generator of a model file may take as it is made, beyond four times the weights in the file."""
    record_bytes: int = 50_000_000
    """What a JSON file in a run folder may take."""


def limits(settings: str | None = None) -> Limits:
    """The limits of this process, or those that other ``settings`` give; LimitError as :func:`set_limits`."""
    found, names = Limits(), [*Limits.__dataclass_fields__]
    for setting in (os.environ.get(VARIABLE, "") if settings is None else settings).split():
        name, _, value = setting.partition("=")
        if name not in names:
            raise LimitError(
                f"--limit {setting}: there is no such limit{did_you_mean(name, names)} - {', '.join(names)}"
            )
        number = _VALUE.fullmatch(value)
        if number is None or number[2].lower() not in _UNITS:
            raise LimitError(f"--limit {setting}: expected {name}=NUMBER, such as 64GB, 500MB or 20000")
        found = replace(found, **{name: int(float(number[1]) * _UNITS[number[2].lower()])})
    return found


def set_limits(settings: Iterable[str]) -> None:
    """Set limits for this process and those that it starts, by "NAME=VALUE" each: "image_bytes=64GB".

    Raises:
        LimitError: there is no such limit, or the value is no number.
    """
    settings = list(settings)
    if settings:
        text = " ".join([os.environ.get(VARIABLE, ""), *(each.replace(" ", "") for each in settings)]).strip()
        limits(text)
        os.environ[VARIABLE] = text


def over(name: str, needed: int) -> str:
    """What a message says of input that ``needed`` more than the limit ``name``, and how that is raised."""
    limit: int = getattr(limits(), name)
    in_bytes = name.endswith("bytes")
    rule = f"the limit {name} is {_readable(limit) if in_bytes else limit}"
    enough = _readable(needed, up=True) if in_bytes else needed
    return f"{rule}; if it is meant to be so, raise that: p2pkit --limit {name}={enough} COMMAND"


def parsed_toml(text: str) -> dict[str, Any]:
    """The tables in a text, which costs time and memory in proportion to its length.

    Raises:
        ValueError: this is not valid TOML, tables are nested too deep, or a number has more than 64 bits.
        LimitError: it has too many keys.
    """
    deep = f"it nests tables or lists more than {DEEPEST} deep; take levels out"
    try:
        if _TOO_DEEP.search(text):
            raise ValueError(deep)
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError(deep) from None
    keys, level = 0, [*tables.values()]
    for _ in range(DEEPEST):
        below = list[Any]()
        for value in level:
            if isinstance(value, dict | list):
                keys += len(value) if isinstance(value, dict) else 0
                below += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(
                    f"it has a whole number of more than 64 bits, {hex(value)[:18]}...; write a smaller one"
                )
        level = below
    if level:
        raise ValueError(deep)
    if (keys := keys + len(tables)) > limits().recipe_keys:
        raise LimitError(f"it has {keys} keys and tables; {over('recipe_keys', keys)}")
    return tables


def _readable(value: int, up: bool = False) -> str:
    """A number of bytes as people write it, rounded up where it is to suffice."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= size:
            return f"{-(-value // size)}{unit}" if up else f"{value / size:.3g}{unit}"
    return str(value)
