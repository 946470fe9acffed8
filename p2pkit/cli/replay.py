"""``p2pkit replay``: make a step again that went wrong, and say where it began."""

from __future__ import annotations

from pathlib import Path

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import DEVICE
from p2pkit.errors import visible


@click.command("replay", short_help="Make a step again whose loss was not finite.")
@click.argument("folder", type=click.Path(path_type=Path))
@DEVICE
def command(folder: Path, device: str | None) -> None:
    """Make the step again that a run has left in FOLDER (RUN_DIR/not_finite/step_...), and say where it went wrong.

    Of a run folder, or a folder of runs, it is the last such step.

    Shown are the losses and gradients of each network, and the first layer whose output is not finite. No file and no
    weight is changed.
    """
    announce(f"replay {folder}", device or "auto")
    from p2pkit.resumed_runs import replay

    for line in replay(folder, device):
        click.echo(visible(line))
