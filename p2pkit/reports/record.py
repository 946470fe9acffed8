"""What a run folder says of its run: all that a page shows, read from its files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p2pkit.errors import RunDirError
from p2pkit.reports.pictures import statistics_in_time
from p2pkit.reports.rules import Line, RunWarning, find_warnings, number
from p2pkit.run_dir import ENVIRONMENT, RunDir
from p2pkit.run_records import DataRecord, Environment, Measured, Status, read_record
from p2pkit.utils.jsonl import read_lines
from p2pkit.utils.opening import limits, parsed_toml, read_regular


@dataclass(frozen=True)
class RunRecord:
    """A run, as its folder has it now; a run that goes on may be read too."""

    folder: RunDir
    environment: Environment
    status: Status
    measured: Measured
    lines: Sequence[Line]
    """Of metrics.jsonl; of each the step is a number."""
    recipe_text: str
    """The resolved recipe."""
    source_text: str
    """The recipe as it was written."""

    @classmethod
    def read(cls, folder: RunDir) -> RunRecord:
        """What is in ``folder``.

        Raises:
            RunDirError: a file is damaged, or there is no recipe.
        """
        environment = Environment.model_validate(read_record(folder.path / ENVIRONMENT, Environment))
        status = Status.model_validate(read_record(folder.status, Status))
        measured = Measured.model_validate(read_record(folder.validation, Measured))
        lines = [line for line in read_lines(folder.metrics) if _is_a_step(line.get("step"))]
        texts = _text(folder.recipe), _text(folder.path / "recipe.source.toml")
        return cls(folder, environment, status, measured, lines, *texts)

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """The tables of the resolved recipe. Raises RunDirError where it is damaged."""
        try:
            return parsed_toml(self.recipe_text)
        except ValueError as error:
            raise RunDirError(f"{self.folder.recipe}: the file is damaged: {error}; restore it from a copy") from error

    @property
    def name(self) -> str:
        """What the run is called."""
        run = self.recipe.get("run")
        return str(run.get("name", "")) if isinstance(run, Mapping) else ""

    @property
    def data(self) -> DataRecord:
        """What it began with of data."""
        return self.environment.data

    @property
    def state(self) -> str:
        """What has become of it: "training", "finished", "interrupted", "failed" or "killed"."""
        if self.status.state == "running":
            return "training" if self.folder.is_held else "killed"
        return self.status.state

    @property
    def step(self) -> int:
        """The last step that something is known of."""
        return max(self.status.step, *(int(line["step"]) for line in self.lines[-3:]), 0)

    @cached_property
    def warnings(self) -> list[RunWarning]:
        """What a practitioner would warn of."""
        monitor = self.measured.monitor
        direction = self.measured.higher_is_better.get(monitor) if monitor else None
        return find_warnings([*self.lines, *self.statistics], monitor, direction)

    @cached_property
    def statistics(self) -> list[Line]:
        """Numbers on the outputs for the samples, in time."""
        return [*statistics_in_time(self.folder)]

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The last metrics on the validation set, by row ("validation", "source" ...) and name."""
        rows: dict[str, dict[str, float]] = {}
        last = max((line["step"] for line in self.lines if line.get("split") == "validation"), default=None)
        for line in self.lines:
            if line["step"] == last and line.get("split") in ("validation", "baseline"):
                for key in line:
                    row, slash, name = str(key).partition("/")
                    if slash and (value := number(line, key)) is not None:
                        rows.setdefault(row, {})[name] = value
        return rows


def _is_a_step(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**53


def _text(file: Path) -> str:
    try:
        return read_regular(file, limits().recipe_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ""
