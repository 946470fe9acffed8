"""A table of recipe overrides and seeds, trained and measured row by row: ``p2pkit.sweep``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from p2pkit.build import make
from p2pkit.components.host import manager
from p2pkit.errors import P2PKitError, RecipeError, RunDirError, counted, listed
from p2pkit.recipe.changes import unequal
from p2pkit.recipe.document import Overrides
from p2pkit.recipe.resolve import read_recipe
from p2pkit.run_records import SweepRecord, read_record
from p2pkit.sweeps.pictures import write_page
from p2pkit.sweeps.processes import Job, Places, run_jobs
from p2pkit.sweeps.results import RowResult, SweepResult
from p2pkit.sweeps.table import LOGS, RUNS, Run, Table, as_overrides, read_table
from p2pkit.utils.atomic import os_errors_described, write_json
from p2pkit.utils.opening import limits, read_regular
from p2pkit.utils.progress import print_line, process_count

PLAN = "plan.json"
"""What the runs of each row are made by, in the folder of a table."""


def sweep(
    table: Path | str,
    overrides: Overrides = (),
    out: Path | str = "sweeps",
    jobs: int | None = None,
    device: str | None = None,
) -> SweepResult:
    """Train the runs of a table that are missing, each in a process of its own, and measure them.

    Called again after whatever has ended it, it does what is missing. A run that fails leaves the others alone.

    Args:
        table: the file, or PLUGIN:SWEEP (docs/sweeps.md): the recipe, rows of overrides, seeds, what is measured.
        overrides: what is set on top of every row, values by dotted key: ``{"train.max_steps": 100}``.
        out: the folder of runs, in ``runs/``, and of results, in a folder called as the table. Tables in one ``out``
            share runs that are alike.
        jobs: how many runs at a time; one for each GPU, or for two cores, unless given.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" or None for the best there is.

    Raises:
        RecipeError: the table or a recipe of its rows is invalid; nothing has been trained then.
        RunDirError: another sweep is running in ``out``.
        Interrupted: Ctrl-C, or another signal; what ran has written checkpoints. It is a KeyboardInterrupt.
    """
    if process_count() > 1:
        raise RecipeError("a sweep starts the processes of its runs itself; start it without torchrun or accelerate")
    found, folder = read_table(table, overrides), Path(out)
    _try_metrics(found)
    results = folder / found.name
    with os_errors_described(results):
        results.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        for notice in _alike(found):
            print_line(notice)
        _tell_changes(found, results / PLAN, folder / RUNS)
        folders = found.folders(folder / RUNS)
        failures = _do(found, folder, folders, jobs, device)
        result = _gathered(found, results, folders, failures)
        result.write()
        if shown := [(row.name, Path(row.runs[0]["run_dir"])) for row in result.rows if row.runs[0]["metrics"]]:
            title = f"{found.name}, seed {found.seeds[0]}, {result.measured_on}"
            write_page(results / "pictures.png", title, shown, found.evaluate.split, device)
        return result


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Raise RunDirError where another sweep is running in ``folder``, and keep others out."""
    lock = FileLock(folder / ".lock", blocking=False)
    with os_errors_described(folder / ".lock"):
        try:
            lock.acquire()
        except Timeout as error:
            what = f"{folder}: another sweep is running in it; wait for its end, or choose another --out"
            raise RunDirError(what) from error
    try:
        yield
    finally:
        lock.release()


def _try_metrics(table: Table) -> None:
    """Raise P2PKitError where a metric that the table names cannot be had, before anything is trained."""
    if table.evaluate.metrics is not None:
        run = next(iter(table.rows.values()))[0]
        recipe = read_recipe(run.recipe, [*run.overrides, *as_overrides({"metrics": table.evaluate.metrics})])
        for chosen in recipe.metrics:
            make(chosen)


def _tell_changes(table: Table, plan: Path, runs: Path) -> None:
    """Tell which rows are other ones than when the table was last swept, and keep what they are now."""
    before: dict[str, list[dict[str, Any]]] = {}
    with suppress(FileNotFoundError, ValueError):  # where it is damaged, nothing is told
        before = TypeAdapter(dict[str, list[dict[str, Any]]]).validate_json(read_regular(plan, limits().record_bytes))
    now = json.loads(json.dumps({row: [run.keys for run in of_row] for row, of_row in table.rows.items()}, default=str))
    for row, of_row in now.items():
        known = {str(keys.get("run.seed")): keys for keys in before.get(row, ())}
        for keys in of_row:
            seed = str(keys["run.seed"])
            if changed := unequal(known.get(seed, keys), keys):
                shown = [f"{key}: {was!r} before, {is_now!r} now" for key, (was, is_now) in changed.items()]
                print_line(
                    f"NOTICE: row {row!r}, seed {seed}, has changed, and is another run:{listed(shown, 10)}\n"
                    f"The former one stays in {runs}"
                )
                break  # the others of the row have changed alike
    if gone := [row for row in before if row not in table.rows]:
        print_line(f"NOTICE: {', '.join(map(repr, gone))}: rows no longer; their runs stay in {runs}")
    with os_errors_described(plan):
        write_json(plan, now)


def _do(table: Table, out: Path, folders: Mapping[str, Path], count: int | None, device: str | None) -> dict[Path, str]:
    """Do what is missing; why runs have failed, by folder."""
    jobs, failures = dict[Path, Job](), dict[Path, str]()
    disabled, only, trees = manager().chosen
    for run in (run for of_row in table.rows.values() for run in of_row):
        place = folders[run.digest]
        if place in jobs:
            continue
        if (place / "changes.jsonl").exists():
            other = "it was resumed with other settings (changes.jsonl), and is not what the row says"
            failures[place] = f"{place}: {other}; move that folder away, and sweep again"
        elif not _is_measured(place / table.record):
            what = {
                "plugins": [disabled, only, list(map(str, trees))], "recipe": run.recipe, "overrides": run.overrides,
                "folder": str(place), "device": device, "record": table.record,
                "evaluate": table.evaluate.model_dump(),
            }  # fmt: skip
            log = out / LOGS / f"{place.name}.log"
            jobs[place] = Job(f"{run.row}, seed {run.seed}", place, log, what)
    done = len(folders) - len(jobs) - len(failures)
    if not jobs:
        return failures
    places = Places.found(count, device, len(jobs))
    each = f"GPUs {', '.join(places.gpus)}" if places.gpus else f"{counted(places.threads, 'thread')} each"
    there = f" ({done} {'is' if done == 1 else 'are'} there)" if done else ""
    print_line(f"{counted(len(jobs), 'run')} to do{there}, {places.count} at a time, {each}; logs: {out / LOGS}")
    return {**failures, **run_jobs(list(jobs.values()), places, done)}


def _is_measured(record: Path) -> bool:
    """Whether the record is there, and whole."""
    with suppress(P2PKitError):
        return bool(read_record(record, SweepRecord))
    return False


def _gathered(table: Table, results: Path, folders: Mapping[str, Path], failures: Mapping[Path, str]) -> SweepResult:
    """The table, from what the run folders say."""
    rows, records = list[RowResult](), list[tuple[Run, dict[str, Any]]]()
    for name, of_row in table.rows.items():
        runs = []
        for run in of_row:
            place, record = folders[run.digest], dict[str, Any]()
            error = failures.get(place)
            if error is None:
                try:
                    record = read_record(place / table.record, SweepRecord)
                except P2PKitError as damaged:
                    error = f"{damaged}"
            if record:
                records.append((run, record))
            metrics = record["rows"].get(record["row"]) if record else None
            runs.append({"seed": run.seed, "run_dir": str(place), "metrics": metrics, "error": error})
        rows.append(RowResult(name, runs))
    others, measured_on = dict[str, Any](), "nothing"
    if records:
        first = records[0][1]
        others = {row: values for row, values in first["rows"].items() if row != first["row"]}
        measured_on = f"{first['set']}, {counted(first['images'], 'image')}"
    return SweepResult(results, rows, others, measured_on, [*_alike(table), *_notices(records)])


def _alike(table: Table) -> list[str]:
    """What is told of rows that differ in name alone, as they do where a key is set to what the recipe has."""
    names = [", ".join(map(repr, rows)) for rows in table.alike]
    return [f"NOTICE: {each}: rows of the same recipe, and so of the same runs" for each in names]


def _notices(records: Sequence[tuple[Run, Mapping[str, Any]]]) -> list[str]:
    """What stands in the way of comparing rows: other data, or another set of it."""
    notices = []
    for what, key in (("trained on other data", "fingerprint"), ("measured on another number of images", "images")):
        unlike = [f"{run.row}, seed {run.seed}" for run, record in records if record[key] != records[0][1][key]]
        if unlike:
            notices.append(f"NOTICE: {what} than {records[0][0].row}: {'; '.join(unlike)}")
    return notices
