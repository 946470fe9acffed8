"""The reports of runs, made of what is in their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pkit.errors import WriteError
from p2pkit.reports.record import RunRecord
from p2pkit.reports.rules import RunWarning
from p2pkit.run_dir import RunDir
from p2pkit.utils.atomic import atomic_write, refuse_replacing

SEVERAL = Path("report.html")
"""Where the report on several runs is written, unless another place is named."""


@dataclass(frozen=True)
class Report:
    """A report that has been written."""

    file: Path
    warnings: Mapping[str, Sequence[RunWarning]]
    """What a practitioner would warn of, by what the report calls each run."""


def report(runs: Path | str | Iterable[Path | str], out: Path | str | None = None) -> Report:
    """Write the report of a run, or of several side by side, as one HTML file.

    Args:
        runs: a run folder, or several; of a folder of runs that which began last.
        out: the file, which ends in .html; unless given, report.html in the run folder, or of several runs in this one.

    Raises:
        RunDirError: there is no run, or what it has written is damaged.
        WriteError: ``out`` is not called as a page, is something else, or cannot be written.
    """
    paths = [Path(runs)] if isinstance(runs, Path | str) else [Path(run) for run in runs]
    if out is not None and Path(out).suffix.lower() not in (".html", ".htm"):
        raise WriteError(f"{out}: a report is a page; give it a name that ends in .html")
    records = [RunRecord.read(RunDir.open(path)) for path in paths]
    file = Path(out) if out is not None else records[0].folder.report if len(records) == 1 else SEVERAL
    refuse_replacing(file, [record.folder.recipe for record in records])
    return write_report(records, file)


def write_report(records: Sequence[RunRecord], file: Path) -> Report:
    """Write the page on what has been read of runs. Raises WriteError where that is not possible."""
    from p2pkit.reports.page import page_of_run, page_of_runs

    named = dict(zip(_names(records), records, strict=True))
    page = page_of_run(records[0]) if len(records) == 1 else page_of_runs(named)
    with atomic_write(file, durable=False) as aside:
        aside.write_text(page, encoding="utf-8")
    return Report(file, {name: record.warnings for name, record in named.items()})


def _names(records: Sequence[RunRecord]) -> list[str]:
    """What runs are called: by their recipes, or where these are alike also by their folders."""
    names = [record.name or record.folder.path.name for record in records]
    for longer in (lambda path: path.name, str):
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else f"{record.name} {longer(record.folder.path)}".strip()
            for name, record in zip(names, records, strict=True)
        ]
    return [name if Counter(names)[name] == 1 else f"{name} ({place})" for place, name in enumerate(names, 1)]
