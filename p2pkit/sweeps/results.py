"""What a sweep has found: means and intervals over seeds, as a table in Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from p2pkit.utils.atomic import write_json, write_text
from p2pkit.utils.jsonl import finite

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """The mean of a metric over seeds, and half of its 95% confidence interval; None for a single seed."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.half is None else f" ± {self.half:.4f}")


@dataclass(frozen=True)
class RowResult:
    """A row of the table."""

    name: str
    runs: Sequence[Mapping[str, Any]]
    """Of each seed: seed, run_dir, metrics by name (None where there are none), error (or None)."""

    def metrics(self) -> dict[str, Mean]:
        """Over the seeds whose runs have been measured."""
        measured = [run["metrics"] for run in self.runs if run["metrics"] is not None]
        names = dict.fromkeys(name for metrics in measured for name in metrics)
        return {name: mean_over([each[name] for each in measured if name in each]) for name in names}

    @property
    def count(self) -> int:
        """How many seeds are measured."""
        return sum(run["metrics"] is not None for run in self.runs)


@dataclass(frozen=True)
class SweepResult:
    """The table of a sweep."""

    folder: Path
    """Where table.md, table.csv, table.json and pictures.png are."""
    rows: Sequence[RowResult]
    others: Mapping[str, Mapping[str, float]]
    """What needs no run: trivial translators, and other rows that metrics bring, by row and name of the metric."""
    measured_on: str
    notices: Sequence[str] = field(default_factory=list)
    """What stands in the way of comparing the rows."""

    @property
    def failures(self) -> list[str]:
        """The runs that have failed, a sentence each."""
        return [
            f"{row.name}, seed {run['seed']}: {run['error']}" for row in self.rows for run in row.runs if run["error"]
        ]

    @property
    def names(self) -> list[str]:
        """The metrics, in the order of the table."""
        return list(dict.fromkeys(name for row in self.rows for name in row.metrics()))

    def lines(self) -> list[list[str]]:
        """The table as text: below a header a line for each row, then the others."""
        lines = [["", *self.names, "seeds"]]
        for row in self.rows:
            found = row.metrics()
            asked = len(row.runs)
            seeds = f"{row.count}" if row.count == asked else f"{row.count} of {asked}"
            lines.append([row.name, *(str(found.get(name, "")) for name in self.names), seeds])
        for other, values in self.others.items():
            lines.append([other, *(f"{values[name]:.4f}" if name in values else "" for name in self.names), ""])
        return lines

    def as_json(self) -> dict[str, Any]:
        """All of it, as table.json has it; numbers that are not finite are null."""
        rows = []
        for row in self.rows:
            means = {name: {"mean": found.mean, "half": found.half} for name, found in row.metrics().items()}
            rows.append({"name": row.name, "metrics": means, "runs": [dict(run) for run in row.runs]})
        found = {
            "folder": str(self.folder), "measured_on": self.measured_on, "interval": LEVEL, "rows": rows,
            "others": self.others, "notices": self.notices, "failures": self.failures,
        }  # fmt: skip
        made: dict[str, Any] = finite(found)
        return made

    def write(self) -> None:
        """Write table.md, table.csv and table.json."""
        write_json(self.folder / "table.json", self.as_json())
        write_text(self.folder / "table.md", self._markdown())
        write_text(self.folder / "table.csv", self._csv())

    def _markdown(self) -> str:
        header, *lines = [[cell.replace("|", "\\|") for cell in line] for line in self.lines()]
        text = [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)]
        behind = [f"Measured on the {self.measured_on}; {WHAT_IS_SHOWN}.", *self.notices, *self.failures]
        return "\n".join([*text, *(f"\n{line}" for line in behind)]) + "\n"

    def _csv(self) -> str:
        written = io.StringIO()
        lines = csv.writer(written, lineterminator="\n")
        lines.writerow(["row", "seeds", *(f"{name}{end}" for name in self.names for end in ("", "_low", "_high"))])
        for row in self.rows:
            cells = list[Any]()
            for name in self.names:
                found = row.metrics().get(name)
                half = math.nan if found is None or found.half is None else found.half
                bounds = ("", "") if found is None or math.isnan(half) else (found.mean - half, found.mean + half)
                cells += ["" if found is None else found.mean, *bounds]
            lines.writerow([row.name, row.count, *cells])
        for other, values in self.others.items():
            lines.writerow([other, "", *(cell for name in self.names for cell in (values.get(name, ""), "", ""))])
        return written.getvalue()


WHAT_IS_SHOWN = "means over seeds ± half the 95% confidence interval (Student's t), which a single seed does not have"


def mean_over(values: Sequence[float]) -> Mean:
    """The mean over seeds, with its 95% confidence interval by Student's t: that of the mean over all seeds."""
    count, mean = len(values), fmean(values)
    if count < 2 or not all(map(math.isfinite, values)):
        return Mean(mean, None)
    return Mean(mean, student_t(count - 1) * stdev(values) / math.sqrt(count))


def student_t(freedom: int) -> float:
    """The value that Student's t with so many degrees of freedom stays below, in absolute value, in 95% of cases."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < LEVEL else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """The probability of an absolute value below ``t`` (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    term, total = 1.0, 0.0
    odd = freedom % 2
    for step in range(freedom // 2):
        total += term
        term *= math.cos(angle) ** 2 * (2 * step + 1 + odd) / (2 * step + 2 + odd)
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)
