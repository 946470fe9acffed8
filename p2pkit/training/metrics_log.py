"""metrics.jsonl: the mean of each loss term over the steps since the last line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor

from p2pkit.utils.atomic import naming_failures, write_text


class MetricsWindow:
    """Running means of the loss terms since the last line. Sums stay on their device until a line is written."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._sums: dict[str, Any] = dict(state["sums"]) if state else {}
        self._counts: dict[str, int] = dict(state["counts"]) if state else {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Take in the terms of one step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The means so far, over this process's share of the batches."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def clear(self) -> None:
        """Begin anew, after a line has been written."""
        self._sums, self._counts = {}, {}

    def state(self) -> dict[str, Any]:
        """The window as JSON, for a checkpoint; floats survive it exactly."""
        return {"sums": {name: float(total) for name, total in self._sums.items()}, "counts": self._counts}


def append_line(file: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line, whole or not at all."""
    line = json.dumps(values) + "\n"
    with naming_failures(file), file.open("ab") as handle:
        before = handle.tell()
        try:
            handle.write(line.encode())
            handle.flush()
        except OSError:
            os.truncate(file, before)
            raise


def drop_lines(file: Path, step: int, splits: Set[str]) -> None:
    """Remove the lines that a run resumed from ``step`` writes again: later ones and that step's of ``splits``."""

    def stays(values: Mapping[str, Any]) -> bool:
        return not (values["step"] > step or (values["step"] == step and values["split"] in splits))

    keep_lines(file, stays)


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
