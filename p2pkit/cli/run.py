"""``p2pkit run``: train what a recipe describes, or go on with an earlier run."""

from __future__ import annotations

from pathlib import Path

import click

from p2pkit.cli.options import SET, device_option
from p2pkit.errors import RecipeError


@click.command("run", short_help="Train what a recipe describes, or go on with a run.")
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@SET
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Run folder. [runs/NAME/DATE-TIME]")
@click.option("--max-time", metavar="TIME", help='End the run after a time: "90s", "5m", "1h30m".')
@click.option("--resume", metavar="RUN_DIR", type=click.Path(path_type=Path), help="Go on with the run in this folder.")
@click.option(
    "--continue", "continues", is_flag=True, help="Go on with the run in --out DIR if there is one, else start."
)
@click.option("--accept-changed-data", is_flag=True, help="Go on although the data is not what the run began with.")
@device_option
def command(
    recipe: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    max_time: str | None,
    resume: Path | None,
    continues: bool,
    accept_changed_data: bool,
    device: str | None,
) -> None:
    """Train what RECIPE describes: a file, or PLUGIN:RECIPE for one that a plugin brings.

    The run folder gets the model, samples, metrics and checkpoints.

    Ctrl-C writes a checkpoint and prints the command that goes on. With --continue the same command starts a run and
    goes on with it, for launchers that repeat a command: SLURM's requeue, torchrun's elastic restart.
    """
    if resume is not None:
        if recipe or overrides or out or max_time or continues:
            raise RecipeError(
                "--resume goes on with the recipe in the run folder; leave out RECIPE, --set, --out, --max-time and "
                "--continue"
            )
        from p2pkit.cli.training import resume_run

        resume_run(resume, device, accept_changed_data)
        return
    if accept_changed_data and not continues:
        raise click.UsageError("--accept-changed-data goes with --resume and --continue")
    if recipe is None:
        raise click.UsageError("give a RECIPE, or --resume RUN_DIR")
    if continues and out is None:
        raise click.UsageError("--continue needs --out DIR, the folder to look for a run in")
    if max_time is not None:
        _check_duration(max_time)
        overrides = (*overrides, f'train.max_time="{max_time}"')

    from p2pkit.recipe.resolve import read_recipe

    resolved = read_recipe(recipe, overrides)

    from p2pkit.cli.training import continue_run, start_run

    if continues and out is not None:
        continue_run(resolved, overrides, out, device, accept_changed_data)
    else:
        start_run(resolved, overrides, out, device)


def _check_duration(text: str) -> None:
    from p2pkit.settings import seconds_in

    try:
        seconds_in(text)
    except ValueError as error:
        raise click.BadParameter(f"found {text!r}, expected {error}", param_hint="--max-time") from error
