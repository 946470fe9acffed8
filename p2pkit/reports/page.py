"""The page on a run, and that on several side by side: one file each, that asks nothing of any host."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from p2pkit.errors import counted
from p2pkit.reports.facts import (
    about_data,
    about_machine,
    about_metrics,
    about_networks,
    about_time,
    differences,
    overrides,
)
from p2pkit.reports.pictures import read_grid, samples_in_time
from p2pkit.reports.plots import Plot
from p2pkit.reports.record import RunRecord
from p2pkit.reports.series import Group, groups_beside, groups_of

_FOLDER = Path(__file__).with_name("page")


def page_of_run(run: RunRecord) -> str:
    """The page on a run, as HTML."""
    plots, samples = _plots(groups_of([*run.lines, *run.statistics])), samples_in_time(run.folder)
    return _rendered(
        "run.html", title=run.name or run.folder.path.name, run=run,
        time=about_time(run), samples=samples, steps=sorted({step for each in samples for step in each.outputs}),
        metrics=about_metrics(run), extremes=read_grid(run.folder.validation_pictures), plots=plots,
        data=about_data(run), networks=about_networks(run), machine=about_machine(run),
        overrides=overrides(run),
    )  # fmt: skip


def page_of_runs(runs: Mapping[str, RunRecord]) -> str:
    """The page on several runs, by what they are called, as HTML."""
    lines = {name: run.lines for name, run in runs.items()}
    samples = {name: {each.key: each for each in samples_in_time(run.folder)} for name, run in runs.items()}
    keys = [key for key in next(iter(samples.values())) if all(key in each for each in samples.values())]
    return _rendered(
        "runs.html", title=f"{counted(len(runs), 'run')} side by side", runs=runs,
        states={name: run.state for name, run in runs.items()},
        times={name: dict(about_time(run)) for name, run in runs.items()}, samples=samples, keys=keys,
        metrics={name: about_metrics(run) for name, run in runs.items()}, plots=_plots(groups_beside(lines)),
        differences=differences(runs),
    )  # fmt: skip


def _plots(groups: Sequence[Group]) -> list[Plot]:
    if not groups:
        return []
    from p2pkit.reports.plots import draw  # a run of a few steps has nothing to draw, and imports no matplotlib

    return [draw(group) for group in groups]


def _rendered(template: str, **values: Any) -> str:
    style, script = (Markup((_FOLDER / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = _environment().get_template(template)
    return page.render(style=style, script=script, digest=digest, now=now, version=version("p2pkit"), **values)


@cache
def _environment() -> Environment:
    """Where templates are, compiled once."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["inline"] = Markup
    return environment
