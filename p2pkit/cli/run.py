"""``p2pkit run``: train what a recipe describes, or resume an earlier run."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pkit.cli.main import announce
from p2pkit.cli.metrics import print_rows
from p2pkit.cli.options import DEVICE, JSON, OPTIONAL_RECIPE, SET
from p2pkit.cli.tables import print_text
from p2pkit.errors import RecipeError, visible
from p2pkit.utils.jsonl import finite
from p2pkit.utils.progress import is_main_process

if TYPE_CHECKING:
    from p2pkit.recipe.recipe import Recipe
    from p2pkit.runs import HowToResume, TrainingResult


@click.command("run", short_help="Train what a recipe describes, or resume a run.")
@OPTIONAL_RECIPE
@SET
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Run folder. [runs/NAME/DATE-TIME]")
@click.option("--max-time", metavar="TIME", help='End the run after a time: "90s", "5m", "1h30m".')
@click.option(
    "--resume",
    metavar="RUN_DIR",
    type=click.Path(path_type=Path),
    help="Resume the run in this folder; --set changes limits, rates, logging.",
)
@click.option("--continue", "continues", is_flag=True, help="Resume the run in --out DIR if there is one, else start.")
@click.option("--accept-changed-data", is_flag=True, help="Resume although the data is not what it was trained on.")
@click.option("--accept-changed-recipe", is_flag=True, help="Resume by the recipe as it is now.")
@click.option("--accept-changed-versions", is_flag=True, help="Resume with other versions of p2pkit and plugins.")
@JSON
@DEVICE
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    max_time: str | None,
    resume: Path | None,
    continues: bool,
    accept_changed_data: bool,
    accept_changed_recipe: bool,
    accept_changed_versions: bool,
    as_json: bool,
    device: str | None,
) -> None:
    """Train what RECIPE describes: a file, or PLUGIN:RECIPE for one that a plugin provides.

    RECIPE may be a folder of image pairs: a recipe is made for it as `p2pkit init` does, and kept in the run folder.

    The run folder gets the model, samples, metrics and checkpoints.

    Ctrl-C writes a checkpoint and prints the command that resumes. With --continue the same command starts a run and
    resumes it, for launchers that repeat a command: SLURM's requeue, torchrun's elastic restart.
    """
    began = time.monotonic()  # before torch is imported
    accepted = (accept_changed_data, accept_changed_recipe, accept_changed_versions)
    if recipe is None or resume is not None or continues or any(accepted):
        _refuse_unclear(recipe, resume, out, continues, accepted)
    if max_time is not None:
        _check_duration(max_time)
        overrides = (*overrides, f'train.max_time="{max_time}"')
    announce(f"run {recipe or f'--resume {resume}'}", device or "auto")
    typed = partial(_resume_command, ctx.find_root().params, device)
    # the recipe first: what is wrong with it is said before torch is imported
    from p2pkit.recipe.resolve import read_recipe

    resolved: Recipe | None = None
    if recipe is not None:
        resolved = _of_folder(recipe, overrides, device) if recipe.is_dir() else read_recipe(recipe, overrides)
    if resolved is not None and not continues:
        from p2pkit.runs import train

        result = train(resolved, overrides, out, device, typed, began=began)
    else:
        place = resume or out
        assert place is not None
        result = _resumed(resolved, place, overrides, device, accepted, typed, began)
    if is_main_process():
        _print_json(result, time.monotonic() - began) if as_json else _print(result)


def _print_json(result: TrainingResult, seconds: float) -> None:
    from p2pkit.evaluation.baselines import by_row
    from p2pkit.run_dir import RunDir

    folder = RunDir(result.run_dir)
    found = {
        "run_dir": str(result.run_dir),
        "model": str(result.model_path),
        "step": result.step,
        "best_step": result.best_step,
        "best_model": None if result.best_step is None else str(folder.best_model),
        "stopped": result.stopped,
        "validated_on": result.validated_on,
        "metrics": by_row(result.metrics),
        "not_beaten": result.not_beaten,
        "values": result.values,
        "samples": str(folder.sample(result.step)),
        "report": str(folder.report),
        "warnings": [vars(warning) for warning in result.warnings],
        "device": result.device,
        "seconds": round(seconds, 3),
    }
    click.echo(json.dumps(finite(found), indent=2))


def _refuse_unclear(
    recipe: Path | None, resume: Path | None, out: Path | None, continues: bool, accepted: Sequence[bool]
) -> None:
    """Raise an error where what is given does not go together."""
    if resume is not None:
        if recipe or out or continues:
            raise RecipeError("--resume goes by the recipe in the run folder; leave out RECIPE, --out and --continue")
    elif any(accepted) and not continues:
        raise click.UsageError("--accept-changed-... goes with --resume and --continue")
    elif recipe is None:
        raise click.UsageError("give a RECIPE, or --resume RUN_DIR")
    elif continues and out is None:
        raise click.UsageError("--continue needs --out DIR, the folder to look for a run in")


def _resumed(
    recipe: Recipe | None, place: Path, overrides: tuple[str, ...], device: str | None,
    accepted: tuple[bool, bool, bool], typed: HowToResume, began: float,
) -> TrainingResult:  # fmt: skip
    """The run in a folder resumed; or begun there, where it holds none yet and there is a recipe."""
    from p2pkit.resumed_runs import resume, train_or_resume
    from p2pkit.since import Accepted

    if recipe is not None:
        return train_or_resume(recipe, overrides, place, device, Accepted(*accepted), typed, began)
    data, by_recipe, versions = accepted
    return resume(
        place, overrides, device, data, typed, began=began, accept_changed_recipe=by_recipe,
        accept_changed_versions=versions,
    )  # fmt: skip


def _of_folder(folder: Path, overrides: tuple[str, ...], device: str | None) -> Recipe:
    """The recipe that is made for a folder of pairs, some of which are shown here."""
    from p2pkit.cli.init import made_recipe, report_unused, show_pairs

    with redirect_stdout(sys.stderr):  # results alone are on stdout
        made = made_recipe(folder, device)
        report_unused(made)
        recipe = made.recipe(overrides)
        show_pairs(made, folder, Path())
    return recipe


def _print(result: TrainingResult) -> None:
    from p2pkit.evaluation.baselines import by_row
    from p2pkit.run_dir import RunDir

    folder = RunDir(result.run_dir)
    if result.metrics:
        values = f" (values {result.values} are 0 to 1)" if result.values else ""
        click.echo(visible(f"metrics of the {result.validated_on}{values}:"))
    rows = by_row(result.metrics)
    for name, value in rows.get("validation", {}).items():
        click.echo(visible(f"validation/{name}: {value:.4f}"))
    if len(rows) > 1:
        click.echo("beside trivial translations of it:")
        print_rows(rows, result.not_beaten)
    for warning in result.warnings:
        print_text(f"WARNING: {warning}")
    if result.stopped:
        click.echo(visible(f"stopped at step {result.step}: {result.stopped}"))
    click.echo(visible(f"model: {result.model_path}"))
    if result.best_step is not None:
        click.echo(visible(f"best on the {result.validated_on}: {folder.best_model} (step {result.best_step})"))
    click.echo(visible(f"samples: {folder.sample(result.step)}"))
    if folder.report.exists():
        click.echo(visible(f"report: {folder.report}"))


def _resume_command(given: Mapping[str, Any], device: str | None, folder: Path, accept_changed_data: bool) -> str:
    """What resumes a run, with those options of this command that matter there too."""
    words = ["p2pkit"]
    if given["plugins_dir"]:
        words += ["--plugins-dir", str(given["plugins_dir"])]
    for name in given["no_plugin"]:
        words += ["--no-plugin", name]
    for setting in given["limit"]:
        words += ["--limit", setting]
    words += ["run", *(["--device", device] if device else []), "--resume", str(folder)]
    words += ["--accept-changed-data"] if accept_changed_data else []
    return shlex.join(words)


def _check_duration(text: str) -> None:
    from p2pkit.settings import seconds_in

    try:
        seconds_in(text)
    except ValueError as error:
        raise click.BadParameter(f"found {text!r}, expected {error}", param_hint="--max-time") from error
