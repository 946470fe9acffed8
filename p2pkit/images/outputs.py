"""Which files p2pkit translate has written: each folder of outputs has a hidden file that says so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2pkit.utils.jsonl import read_lines

SIDECAR = ".p2pkit-translations.jsonl"
"""In each folder of outputs: a JSON line as an output is begun, and one as it is done, with what it was made with.

The last line of a name counts. Lines are only ever added, so several processes may write to one folder.
"""


def records_in(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The last line on each file of a folder, by name; empty where there are none, or they cannot be read."""
    lines: list[Mapping[str, Any]] = []
    with suppress(OSError):  # what cannot be read says nothing
        lines = read_lines(folder / SIDECAR)
    return {line["name"]: line for line in lines if isinstance(line.get("name"), str)}


def is_output(file: Path, line: Mapping[str, Any] | None) -> bool:
    """Whether a file holds, byte for byte, what its line says was written there."""
    try:
        return line is not None and line.get("bytes") == file.stat().st_size and line.get("sha256") == digest(file)
    except OSError:  # reading it will say the same
        return False


def digest(file: Path) -> str:
    """The SHA-256 of what a file holds: unlike size and time it shows what was put in its place, and survives cp."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
