"""The file of a sweep: rows of recipe overrides and seeds, and the runs that they stand for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, ValidationError

from p2pkit.components.host import manager
from p2pkit.components.issues import issues_in, report
from p2pkit.components.signature import validate
from p2pkit.components.type_words import inline
from p2pkit.contracts import Split
from p2pkit.errors import P2PKitError, RecipeError, counted
from p2pkit.recipe.document import Overrides, flattened, parsed, recipe_file
from p2pkit.recipe.resolve import read_recipe
from p2pkit.settings import Section
from p2pkit.utils.opening import limits, open_regular, over, parsed_toml, read_regular
from p2pkit.utils.progress import shortened

MOST_RUNS = 1000
"""Of a table with more, a mistake in its grid is more likely than that they are meant."""
RUNS, LOGS = OWN_FOLDERS = ("runs", "logs")
"""What a sweep keeps beside the folders of tables: run folders, and what their runs have printed."""


def _checked_name(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > 100:
        raise ValueError("a name on one line, of 1 to 100 characters")
    return value


def _checked_folder(value: str) -> str:
    if set(value) & set("/\\") or not value.strip(". ") or value.casefold() in OWN_FOLDERS:
        raise ValueError(f"the name of a folder, without / and \\, and none of {', '.join(OWN_FOLDERS)}")
    return value


Name = Annotated[str, AfterValidator(_checked_name)]


class RowSettings(Section):
    """``[[rows]]``: a row of the table."""

    name: Name
    """What the row is called in the table and on the page of pictures."""
    extends: str | None = None
    """The recipe of this row, in place of the table's."""
    set: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What is set on top of the recipe, as --set does: values by dotted key, or tables that merge."""


class EvaluateSettings(Section):
    """``[evaluate]``: what the finished runs are measured by; a change here trains nothing anew."""

    split: Split | None = None
    """The set; unless given, test, or val where there is no test set."""
    metrics: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    """[[evaluate.metrics]], as [[metrics]] of a recipe; unless given, those of each row's recipe."""
    max_images: PositiveInt | None = None
    """At most so many images, the first of the set."""


class TableSettings(Section):
    """All of the file."""

    extends: str
    """The recipe that all rows build on: a file, from this one's folder on, or PLUGIN:RECIPE."""
    name: Annotated[Name, AfterValidator(_checked_folder)] | None = None
    """What the table is called, and the folder of its results; unless given, as its file."""
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1, default_factory=lambda: [0])]
    """``run.seed`` of the runs that each row has."""
    set: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What is set on top of the recipe in all rows, below what a row sets."""
    rows: Annotated[list[RowSettings], Field(default_factory=list)]
    """The rows."""
    grid: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Values by dotted key: each row becomes one for every combination of them."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """What is measured."""


@dataclass(frozen=True)
class Run:
    """One run of a row: the recipe, what is set on top of it, and all that comes of the two."""

    row: str
    seed: int
    recipe: str
    overrides: Sequence[str]
    """As --set takes them."""
    keys: Mapping[str, Any]
    """The resolved recipe's values by dotted key, the run's name left out: runs that are alike in these are one."""

    @property
    def digest(self) -> str:
        """A short text that differs where a run would be another one."""
        return digest_of(self.keys)

    def folder(self, runs: Path) -> Path:
        """The run folder below ``runs``, which may be there already under the name of another table's row."""
        plain = re.sub(r"[^\w+.-]+", "_", self.row).strip("._").encode()[:120].decode(errors="ignore")
        return next(iter(sorted(runs.glob(f"*-{self.digest}"))), runs / f"{plain}-seed{self.seed}-{self.digest}")


@dataclass(frozen=True)
class Table:
    """A sweep as written, its rows resolved."""

    file: Path
    name: str
    seeds: list[int]
    rows: dict[str, list[Run]]
    """The runs of each row, one a seed."""
    evaluate: EvaluateSettings

    def folders(self, runs: Path) -> dict[str, Path]:
        """The run folders below ``runs`` by :attr:`Run.digest`: rows that are alike have one."""
        found = dict[str, Path]()
        for run in (run for of_row in self.rows.values() for run in of_row):
            found.setdefault(run.digest, run.folder(runs))
        return found

    @property
    def alike(self) -> list[list[str]]:
        """The rows that stand for the same runs, in groups."""
        called = dict[str, list[str]]()
        for name, of_row in self.rows.items():
            called.setdefault(of_row[0].digest, []).append(name)
        return [names for names in called.values() if len(names) > 1]

    @property
    def record(self) -> str:
        """The file in a run folder that has what is measured of it as the table says."""
        measured = self.evaluate.model_dump()
        files = [value for value in flattened(measured).values() if isinstance(value, str) and Path(value).is_file()]
        for file in files:  # a network that is trained anew measures anew
            with open_regular(Path(file)) as opened:
                measured[file] = hashlib.file_digest(opened, "sha256").hexdigest()
        return f"evaluation-{digest_of(measured)}.json"


def digest_of(value: Any) -> str:
    """Twelve letters that differ where plain values differ."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def read_table(named: Path | str, overrides: Overrides = ()) -> Table:
    """The sweep in a file, or PLUGIN:SWEEP in a plugin's ``recipes/sweeps``, with ``overrides`` on top of every row.

    Raises:
        RecipeError: with all mistakes in it and in the recipes of its rows.
        PluginError: PLUGIN:SWEEP names no plugin that is installed, or none of its sweeps.
    """
    file = manager().given("sweep", named)
    settings = _settings(file)
    shared = as_overrides(overrides) if isinstance(overrides, Mapping) else list(overrides)
    rows, wrong = dict[str, list[Run]](), list[str]()
    for row in _with_grid(file, settings):
        if row.name in rows:
            wrong.append(f"{file}: two rows are called {row.name!r}; rename one")
            continue
        recipe = str(recipe_file(row.extends or settings.extends, file.parent))
        changes = [*as_overrides(settings.set), *as_overrides(row.set), *shared]
        rows[row.name] = []
        try:
            if any("run.seed" in flattened({".".join(path): value}) for path, value in map(parsed, changes)):
                raise RecipeError("run.seed: a table has seeds = [...], for all rows; take run.seed out of the row")
            resolved = read_recipe(recipe, changes)
            tables = resolved.tables()
            if settings.evaluate.metrics is None and not resolved.metrics:
                raise RecipeError("metrics: there are none to measure it by; name some in [[evaluate.metrics]]")
            if settings.evaluate.metrics is not None:
                read_recipe(recipe, [*changes, *as_overrides({"metrics": settings.evaluate.metrics})])
        except P2PKitError as error:
            wrong.append(f"{file}: row {row.name!r}: {error}")
            continue
        del tables["run"]["name"]
        for seed in settings.seeds:
            keys = flattened({**tables, "run": {**tables["run"], "seed": seed}})
            rows[row.name].append(Run(row.name, seed, recipe, [*changes, f"run.seed={seed}"], keys))
    if wrong:
        raise RecipeError("\n".join(wrong))
    return Table(file, _name(file, settings), settings.seeds, rows, settings.evaluate)


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """What is set, as --set takes it, so that layers may set the same table one after another."""
    return [f"{key}={inline(value)}" for key, value in values.items()]


def _name(file: Path, settings: TableSettings) -> str:
    try:
        return settings.name or _checked_folder(file.stem)
    except ValueError as error:
        raise RecipeError(f"{file}: a table that is called as its file, expected {error}; write name = ...") from error


def _settings(file: Path) -> TableSettings:
    try:
        text = read_regular(file, most := limits().recipe_bytes)
        if len(text) > most:
            raise RecipeError(f"{file}: the table is too large; {over('recipe_bytes', file.stat().st_size)}")
        tables = parsed_toml(text.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: the table of a sweep is not in UTF-8; save it so") from error
    except P2PKitError:
        raise
    except ValueError as error:
        raise RecipeError(f"{file}: this is not valid TOML: {error}") from error
    except OSError as error:
        raise RecipeError(f"{file}: the table of a sweep cannot be read: {error.strerror}; check the path") from error
    try:
        settings = validate(TableSettings, tables)
    except ValidationError as error:
        raise RecipeError("\n".join(f"{file}: {line}" for line in _report(error, tables))) from error
    assert isinstance(settings, TableSettings)
    if len(set(settings.seeds)) < len(settings.seeds):
        raise RecipeError(f"{file}: seeds: found {settings.seeds}, expected each seed once")
    return settings


def _report(error: ValidationError, tables: Mapping[str, Any]) -> list[str]:
    return report(issues_in(error, TableSettings, tables, "")).splitlines()


def _with_grid(file: Path, settings: TableSettings) -> list[RowSettings]:
    """The rows; with a grid, one for each row and each combination of values, called by these."""
    axes = dict(_axes(settings.grid))
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise RecipeError(f"{file}: grid.{key}: found {values!r}, expected a list of values")
    if not settings.rows and not axes:
        raise RecipeError(f"{file}: it has no rows; write [[rows]], and below it a name and what to set, or a [grid]")
    of_file = [*settings.rows] or [RowSettings(name="grid", set={})]
    count, seeds = len(of_file) * prod(map(len, axes.values())), len(settings.seeds)
    if count * seeds > MOST_RUNS:
        what = f"{counted(count, 'row')} with {counted(seeds, 'seed')}"
        raise RecipeError(f"{file}: {what} are more than {MOST_RUNS} runs; take some out")
    rows = list[RowSettings]()
    for row, values in product(of_file, product(*axes.values())):
        chosen = dict(zip(axes, values, strict=True))
        names = [row.name] * bool(settings.rows) + [f"{key}={inline(value)}" for key, value in chosen.items()]
        try:
            name = _checked_name(", ".join(names))
        except ValueError as error:
            found = f"a row called {shortened(', '.join(names), 200)!r}, expected {error}"
            raise RecipeError(f"{file}: grid: {found}; write [[rows]] with names in its place") from error
        rows.append(RowSettings(name=name, extends=row.extends, set={**row.set, **chosen}))
    return rows


def _axes(grid: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The lists of values by dotted key; a value may be a table or a list of tables itself."""
    for name, values in grid.items():
        yield from _axes(values, f"{above}{name}.") if isinstance(values, dict) else [(f"{above}{name}", values)]
