"""Logs of one JSON object a line, which a kill may tear and a resumed run repairs; numbers that JSON does not have."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p2pkit.utils.atomic import os_errors_described, write_text


def append_line(file: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line, whole or not at all; null in it stands for numbers that are NaN or infinite."""
    line = json.dumps(finite(values), allow_nan=False) + "\n"
    with os_errors_described(file), file.open("ab") as handle:
        before = handle.tell()
        try:
            handle.write(line.encode())
            handle.flush()
        except OSError:
            os.truncate(file, before)
            raise


def keep_lines(file: Path, stays: Callable[[Mapping[str, Any]], bool]) -> list[Mapping[str, Any]]:
    """Keep those JSON lines of a file that are to stay, and return them; lines that a kill has torn are removed."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8", errors="replace")
    kept, values = [], []
    for line in text.splitlines(keepends=True):
        try:
            read = json.loads(line)
            if line.endswith("\n") and stays(read):
                kept.append(line)
                values.append(read)
        except (ValueError, KeyError, TypeError):
            continue
    if "".join(kept) != text:
        write_text(file, "".join(kept))
    return values


def finite(value: Any) -> Any:
    """``value`` with None for numbers that are NaN or infinite, which JSON does not have, in tables and lists too."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
