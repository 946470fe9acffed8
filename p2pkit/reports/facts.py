"""What pages say of a run beside pictures and plots: names and values, in words."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from p2pkit.evaluation.baselines import not_beaten
from p2pkit.evaluation.driver import GROUND_TRUTH
from p2pkit.reports.record import RunRecord
from p2pkit.run_records import SizesRecord

Facts = list[tuple[str, str]]
TRIVIAL = {
    "source": "the source itself", "mean_target": "the mean target", "class_mean_colour": "each class's mean colour",
    "nearest_source": "the target of the nearest source", GROUND_TRUTH: "the targets themselves",
}  # fmt: skip


@dataclass(frozen=True)
class MetricsTable:
    """The last metrics, the model's first: names with their directions, rows of numbers, what is the best of each."""

    said: str = ""
    step: int | None = None
    monitor: str | None = None
    names: Sequence[str] = ()
    higher_is_better: Mapping[str, bool | None] = field(default_factory=dict)
    rows: Sequence[tuple[str, Mapping[str, float]]] = ()
    not_beaten: Mapping[str, Sequence[str]] = field(default_factory=dict)


def about_metrics(run: RunRecord) -> MetricsTable:
    """The last metrics on the validation set, beside those of trivial translators."""
    rows, measured = run.metrics, run.measured
    if not rows:
        return MetricsTable()
    ours = "validation"
    named = [(f"model, step {measured.step}" if row == ours else TRIVIAL.get(row, row), rows[row]) for row in rows]
    images = f"{measured.images} images of the {measured.set}" if measured.set else ""
    names = list(next(iter(rows.values())))
    unbeaten = not_beaten(rows, ours, measured.higher_is_better)
    return MetricsTable(
        images, measured.step, measured.monitor, names, measured.higher_is_better, named,
        {name: [TRIVIAL.get(row, row) for row in found] for name, found in unbeaten.items()},
    )  # fmt: skip


def about_time(run: RunRecord) -> Facts:
    """How far a run is and what it has taken."""
    status, found = run.status, Facts()
    found.append(("steps", f"{run.step:,} of {status.steps:,}" if status.steps else f"{run.step:,}"))
    if status.epoch:
        found.append(("epochs", f"{status.epoch:.1f}"))
    if status.seconds:
        found.append(("time", _duration(status.seconds)))
        found.append(("rate, with measuring", f"{status.step / status.seconds:.3g} steps/s"))
        if run.state == "training" and 0 < status.progress < 1:
            found.append(("left", f"about {_duration(status.seconds * (1 / status.progress - 1))}"))
    if status.peak_memory:
        found.append(("peak memory", _bytes(status.peak_memory)))
    if status.peak_device_memory:
        found.append(("peak memory of the device", _bytes(status.peak_device_memory)))
    if status.best_step is not None:
        found.append(("best model", f"step {status.best_step:,}"))
    return found


def about_data(run: RunRecord) -> Facts:
    """What a run is trained on: counts, sizes, values."""
    data = run.data
    sets = ((data.pairs, "train"), (data.val_pairs, "val"), (data.test_pairs, "test"))
    found = [("data set", data.name), ("pairs", ", ".join(f"{count:,} {name}" for count, name in sets if count))]
    for side, about in data.sides.items():
        low, high = about.values
        channels = f"{about.channels} channel{'s' if about.channels > 1 else ''} of {about.dtype}"
        sizes = f"{_sizes(data.sizes[side])}, " if side in data.sizes else ""
        found.append((side, f"{sizes}{channels}, values {low:g} to {high:g}"))
    return [(name, value) for name, value in found if value]


def about_networks(run: RunRecord) -> Facts:
    """The components of a run, and how many parameters the networks have."""
    found, parameters = Facts(), run.status.parameters
    for section in ("method", "generator", "discriminator"):
        table = run.recipe.get(section)
        name = str(table.get("name", "")) if isinstance(table, Mapping) else ""
        count = f"{parameters[section] / 1e6:.3g} million parameters" if section in parameters else ""
        if name or count:
            found.append((section, ", ".join(filter(None, (name, count)))))
    known = [name for name, _ in found]
    found += [
        (name, f"{count / 1e6:.3g} million parameters") for name, count in parameters.items() if name not in known
    ]
    losses = [f"{loss.get('name')} of weight {loss.get('weight', 1)}" for loss in _tables(run.recipe.get("losses"))]
    return [*found, *([("losses", ", ".join(losses))] if losses else [])]


def overrides(run: RunRecord) -> list[str]:
    """What was set on top of a recipe, each as KEY=VALUE."""
    found = run.environment.overrides
    if isinstance(found, Mapping):
        return [f"{key}={json.dumps(value)}" for key, value in found.items()]
    return [str(each) for each in found] if isinstance(found, list) else []


def about_machine(run: RunRecord) -> list[Facts]:
    """What each start of a run ran on."""
    found = []
    for start in run.environment.starts:
        libraries = start.get("libraries")
        versions = {"python": start.get("python"), **(libraries if isinstance(libraries, Mapping) else {})}
        typed = start.get("command")
        words = {
            "started": start.get("date"), "host": start.get("host"), "device": start.get("device"),
            "processor": start.get("processor"), "GPUs": ", ".join(map(str, start.get("gpus") or ())),
            "CUDA": start.get("cuda") if start.get("gpus") else None, "processes": start.get("processes"),
            "threads": start.get("threads"), "command": shlex.join(map(str, typed)) if isinstance(typed, list) else "",
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
            "commit of p2pkit": start.get("p2pkit_commit"), "commit of the folder": start.get("directory_commit"),
        }  # fmt: skip
        found.append([(name, str(value)) for name, value in words.items() if value])
    return found


def differences(runs: Mapping[str, RunRecord]) -> list[tuple[str, list[str]]]:
    """The keys in which the recipes of runs differ, each with its values."""
    flat = [dict(_flat(run.recipe)) for run in runs.values()]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = [(key, [str(each.get(key, "")) for each in flat]) for key in keys if not key.startswith("run.")]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            found += _flat({str(place): each for place, each in enumerate(value)}, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _sizes(sizes: SizesRecord) -> str:
    smallest, largest = ("x".join(map(str, size)) for size in (sizes.smallest, sizes.largest))
    return smallest if sizes.different == 1 else f"{sizes.different} sizes from {smallest} to {largest}"


def _duration(seconds: float) -> str:
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    parts = ((whole.days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    return " ".join([f"{count} {unit}" for count, unit in parts if count][:2]) or "0 s"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
