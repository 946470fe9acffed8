"""``p2pkit sweep``: a table of recipe overrides and seeds, trained and measured."""

from __future__ import annotations

import json
from pathlib import Path

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import DEVICE, JSON, SET
from p2pkit.cli.tables import print_table
from p2pkit.errors import P2PKitError, counted, listed


@click.command("sweep", short_help="Train and measure a table of recipe overrides and seeds.")
@click.argument("table", type=click.Path(path_type=Path))
@SET
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), default=Path("sweeps"),
    help="Folder of runs and results. [default: sweeps]",
)  # fmt: skip
@click.option(
    "--jobs", metavar="N", type=click.IntRange(min=1),
    help="So many runs at a time. [default: one for each GPU, or for two cores]",
)  # fmt: skip
@JSON
@DEVICE
def command(
    table: Path, overrides: tuple[str, ...], out: Path, jobs: int | None, as_json: bool, device: str | None
) -> None:
    """Train a run for each row and seed of TABLE, and measure them beside each other.

    TABLE is a TOML file: a recipe, seeds, and rows of what is set on top of the recipe (docs/sweeps.md). The same
    command does what is missing, after whatever has ended it. --set is for all rows: --set train.max_steps=10 tries a
    table out.

    Prints the table, and writes table.md, table.csv, table.json and pictures.png.
    """
    announce(f"sweep {table}", device or "auto")
    from p2pkit.sweeps.results import WHAT_IS_SHOWN
    from p2pkit.sweeps.sweep import sweep

    result = sweep(table, overrides, out, jobs, device)
    if result.failures:
        failed = counted(len(result.failures), "run")
        error = P2PKitError(f"{failed} failed; the others are in {result.folder}{listed(result.failures, 50)}")
        error.details = result.as_json()
        if not as_json:
            print_table(result.lines()[1:], result.lines()[0])
        raise error
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=2))
        return
    print_table(result.lines()[1:], result.lines()[0])
    click.echo(f"{result.measured_on}; {WHAT_IS_SHOWN}")
    for notice in result.notices:
        click.echo(notice)
    click.echo(f"table and pictures: {result.folder}")
