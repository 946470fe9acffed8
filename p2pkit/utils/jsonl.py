"""Logs of one JSON object a line, which a kill may tear and a resumed run repairs; numbers that JSON does not have."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2pkit.utils.atomic import os_errors_described, write_text
from p2pkit.utils.opening import read_regular, regular_descriptor


def append_line(file: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line, whole or not at all; null in it stands for numbers that are NaN or infinite.

    It begins a line of its own also where a kill has torn the last one.
    """
    line = json.dumps(finite(values), allow_nan=False) + "\n"
    # without a buffer: what is left in one is written when the file is closed, although it was refused before
    with os_errors_described(file), open(file, "a+b", buffering=0, opener=_itself) as handle:
        before = handle.seek(0, os.SEEK_END)
        if before and (handle.seek(before - 1), handle.read(1)) != (before - 1, b"\n"):
            line = "\n" + line
        left = line.encode()
        try:
            while left:
                left = left[handle.write(left) :]
        except OSError:
            with suppress(OSError):  # what fails now must not hide what has failed before
                handle.truncate(before)
            raise


def _itself(path: str, flags: int) -> int:
    """Open a file to append to, and none that a link leads to: in a folder that others have made, that may be any."""
    return regular_descriptor(path, flags | getattr(os, "O_NOFOLLOW", 0))


def read_lines(file: Path) -> list[Mapping[str, Any]]:
    """The JSON objects of a file that is or is not there, without lines that a kill has torn."""
    found = []
    for line in _text(file).splitlines():
        try:
            read = json.loads(line)
        except (ValueError, RecursionError):  # lines within lines, a thousand deep
            continue
        if isinstance(read, Mapping):
            found.append(read)
    return found


def keep_lines(file: Path, stays: Callable[[Mapping[str, Any]], bool]) -> list[Mapping[str, Any]]:
    """Keep those JSON lines of a file that are to stay, and return them; lines that a kill has torn are removed."""
    text = _text(file)
    kept, values = [], []
    for line in text.splitlines(keepends=True):
        try:
            read = json.loads(line)
            if line.endswith("\n") and stays(read):
                kept.append(line)
                values.append(read)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    if "".join(kept) != text:
        write_text(file, "".join(kept))
    return values


def _text(file: Path) -> str:
    """What a file says; nothing where it is not there."""
    try:
        return read_regular(file).decode(errors="replace")
    except FileNotFoundError:
        return ""


def finite(value: Any) -> Any:
    """``value`` with None for numbers that are NaN or infinite, which JSON does not have, in tables and lists too."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
