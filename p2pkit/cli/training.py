"""What ``p2pkit run`` does once its options are read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from accelerate import Accelerator

from p2pkit.cli.failures import complain, failure
from p2pkit.cli.options import NO_PLUGIN, PLUGINS_DIR, say
from p2pkit.contracts import ValueRange
from p2pkit.distributed.accelerator import make_accelerator
from p2pkit.distributed.collectives import from_main_process
from p2pkit.distributed.heartbeat import Heartbeat
from p2pkit.distributed.watch import watched
from p2pkit.errors import DataError, P2PKitError, RecipeError
from p2pkit.recipe.assemble import Data, assemble, environment, load_data
from p2pkit.recipe.header_check import check_headers
from p2pkit.recipe.recipe import Recipe, flattened
from p2pkit.recipe.resolve import read_recipe
from p2pkit.recipe.trial import try_recipe
from p2pkit.recipe.value_ranges import found_ranges, wanted_percentiles, with_ranges
from p2pkit.run_dir import RunFolder
from p2pkit.training.not_finite import replay_step
from p2pkit.training.trainer import Trainer


def start_run(recipe: Recipe, overrides: Sequence[str], out: Path | None, device: str | None) -> None:
    """Train a recipe in a new run folder."""
    with _together(recipe, device) as processes:
        _start(processes, recipe, overrides, out)


def resume_run(run_dir: Path, device: str | None, accept_changed_data: bool) -> None:
    """Go on with the run in a folder, from its last checkpoint."""
    folder = RunFolder.open(run_dir)
    recipe = read_recipe(folder.recipe)
    with _together(recipe, device) as processes:
        _resume(processes, recipe, folder, accept_changed_data)


def continue_run(
    recipe: Recipe, overrides: Sequence[str], out: Path, device: str | None, accept_changed_data: bool
) -> None:
    """Go on with the run in ``out`` when it holds one of this recipe with a checkpoint; start it when it does not."""
    folder = RunFolder(out)
    with _together(recipe, device) as processes:
        begun = str(_has_begun(folder, recipe)) if processes.accelerator.is_main_process else ""
        if from_main_process(processes.accelerator, begun) == str(True):
            _resume(processes, recipe, folder, accept_changed_data)
        else:
            _start(processes, recipe, overrides, out)


@dataclass(frozen=True)
class _Processes:
    """What the processes of a run hold on to each other with, and the device that was asked for."""

    accelerator: Accelerator
    heartbeat: Heartbeat
    device: str | None

    def trainer(self, recipe: Recipe, data: Data, folder: RunFolder) -> Trainer:
        command = _resume_command(folder, self.device)
        self.heartbeat.advice = partial(_advice, folder, command)
        return Trainer(assemble(recipe, data), self.accelerator, folder, command)


def _advice(folder: RunFolder, command: str) -> str:
    return f"\nTo go on from the last checkpoint:\n  {command}" if folder.has_checkpoint else ""


@contextmanager
def _together(recipe: Recipe, device: str | None) -> Iterator[_Processes]:
    accelerator = make_accelerator(recipe.train.precision, device, recipe.run.trackers)
    with watched(accelerator, complain, _outcome) as heartbeat:
        yield _Processes(accelerator, heartbeat, device)


def _outcome(error: BaseException) -> tuple[str, int]:
    failed = failure(error)
    return failed.summary, failed.code


def _start(processes: _Processes, recipe: Recipe, overrides: Sequence[str], out: Path | None) -> None:
    accelerator = processes.accelerator
    data = _load_data(recipe, accelerator)
    _check_headers(recipe, data, accelerator)
    data = _with_ranges(recipe, data, accelerator, {})
    try_recipe(recipe, data, accelerator.num_processes)
    created = RunFolder.create(out, recipe.run.name) if accelerator.is_main_process else None
    folder = RunFolder(Path(from_main_process(accelerator, str(created.path) if created else "")))
    trainer = processes.trainer(recipe, data, folder)
    with _held(trainer):
        if accelerator.is_main_process:
            folder.write_recipe(recipe.toml(), recipe.document.text)
            folder.write_environment({**environment(recipe, data), "overrides": list(overrides)})
            say(f"run folder: {folder.path}")
        _train(trainer)


def _resume(processes: _Processes, recipe: Recipe, folder: RunFolder, accept_changed_data: bool) -> None:
    data = _load_data(recipe, processes.accelerator)
    if not accept_changed_data:
        _check_same_data(folder, recipe, data)
    _check_headers(recipe, data, processes.accelerator)
    data = _with_ranges(recipe, data, processes.accelerator, folder.ranges())
    trainer = processes.trainer(recipe, data, folder)
    with _held(trainer):
        damaged = trainer.resume()
        if processes.accelerator.is_main_process:
            for notice in damaged:
                say(f"NOTICE: {notice}")
            say(f"run folder: {folder.path}; going on from step {trainer.state.step}")
        _train(trainer)


def replay(left: Path, device: str | None) -> Iterator[str]:
    """Make the step again that a run has left in its folder under ``not_finite/``; lines that tell what is found."""
    folder = RunFolder.open(left.absolute().parent.parent)
    recipe = read_recipe(folder.recipe)
    accelerator = make_accelerator(recipe.train.precision, device, [])
    data = _with_ranges(recipe, _load_data(recipe, accelerator), accelerator, folder.ranges())
    trainer = Trainer(assemble(recipe, data), accelerator, folder, "")
    return replay_step(left, trainer.trained, trainer.parts.method, accelerator, recipe.run.seed)


def _has_begun(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether a folder holds a run of ``recipe`` to go on with.

    Raises:
        RecipeError: it holds one of another recipe.
    """
    if not folder.has_checkpoint:
        return False
    differences = _differences(read_recipe(folder.recipe), recipe)
    if differences:
        other = f"{folder.path}: the run in this folder is of another recipe:"
        choice = f"Choose another --out, or go on with that run: p2pkit run --resume {shlex.quote(str(folder.path))}"
        raise RecipeError("\n".join([other, *differences, choice]))
    return True


def _differences(there: Recipe, here: Recipe) -> list[str]:
    """The keys in which two recipes differ, a line each."""
    before, now = flattened(there.tables()), flattened(here.tables())
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [f"  {key}: {_shown(before, key)} there, {_shown(now, key)} now" for key in differing]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "nothing"


def _resume_command(folder: RunFolder, device: str | None) -> str:
    """What goes on with a run, with those options of this command that matter there too."""
    given = click.get_current_context().meta
    words = ["p2pkit"]
    if given.get(PLUGINS_DIR):
        words += ["--plugins-dir", str(given[PLUGINS_DIR])]
    for name in given.get(NO_PLUGIN, ()):
        words += ["--no-plugin", name]
    words += ["run", *(["--device", device] if device else []), "--resume", str(folder.path)]
    return shlex.join(words)


def _held(trainer: Trainer) -> AbstractContextManager[None]:
    return trainer.folder.held() if trainer.accelerator.is_main_process else nullcontext()


def _load_data(recipe: Recipe, accelerator: Accelerator) -> Data:
    data = load_data(recipe)
    for notice in data.notices if accelerator.is_main_process else ():
        say(f"NOTICE: {notice}")
    for what, seen in (("another recipe", recipe.toml()), (f"other data for {recipe.data.name!r}", data.fingerprint)):
        if from_main_process(accelerator, seen) != seen:
            raise RecipeError(
                f"process {accelerator.process_index} finds {what} than process 0 does; every machine must see the "
                "same files by the same paths"
            )
    return data


def _check_headers(recipe: Recipe, data: Data, accelerator: Accelerator) -> None:
    """Let the main process look at all headers, and every process end when that ends it."""
    notice = _on_main_process(accelerator, lambda: check_headers(recipe, data) or "")
    if notice and accelerator.is_main_process:
        say(f"NOTICE: {notice}")


def _with_ranges(recipe: Recipe, data: Data, accelerator: Accelerator, known: Mapping[str, ValueRange]) -> Data:
    """The data with the ranges of values that its percentiles are: ``known`` ones, or those the main process finds."""
    wanted = wanted_percentiles(recipe)
    if wanted.keys() <= known.keys():
        return with_ranges(data, {side: known[side] for side in wanted})
    text = _on_main_process(accelerator, lambda: json.dumps(found_ranges(recipe, data)))
    found = {side: (low, high) for side, (low, high) in json.loads(text).items()}
    for side, (low, high) in found.items() if accelerator.is_main_process else ():
        say(f"{side}: values from {low:g} to {high:g} become -1 to 1, as its percentiles say")
    return with_ranges(data, found)


def _on_main_process(accelerator: Accelerator, look: Callable[[], str]) -> str:
    """What ``look`` finds on the main process, on every process; each of them ends when that ends it."""
    found, failure = "", None
    if accelerator.is_main_process:
        try:
            found = look()
        except P2PKitError as error:
            failure = error
    if from_main_process(accelerator, "yes" if failure else "no") == "yes":
        raise failure or DataError("process 0 has found data that cannot be used, and lists it")
    return from_main_process(accelerator, found)


def _check_same_data(folder: RunFolder, recipe: Recipe, data: Data) -> None:
    recorded = folder.environment().get("data", {}).get("fingerprint")
    if recorded is not None and recorded != data.fingerprint:
        raise RecipeError(
            f"{folder.path}: the data of {recipe.data.name!r} is not what this run began with: its fingerprint "
            "differs. Bring that data back, start a new run, or add --accept-changed-data"
        )


def _train(trainer: Trainer) -> None:
    figures = trainer.train()
    if not trainer.accelerator.is_main_process:
        return
    if left_out := trainer.outputs.left_out.summary():
        say(f"NOTICE: {left_out}")
    for name, value in figures.items():
        click.echo(f"{name}: {value:.4f}")
    click.echo(f"model: {trainer.folder.model}")
    if trainer.state.best is not None:
        click.echo(f"best on held-out pairs: {trainer.folder.best_model} (step {trainer.state.best.step})")
    click.echo(f"samples: {trainer.folder.sample(trainer.state.step)}")
