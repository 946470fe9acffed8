"""``p2pkit check``: everything about a recipe that can be known before it trains."""

from __future__ import annotations

from pathlib import Path

import click

from p2pkit.cli.options import RECIPE, SET


@click.command("check", short_help="Check a recipe: its keys, its networks, its data.")
@RECIPE
@SET
def command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Check RECIPE without training it.

    Prints what the data set holds, and of each network its parameters, output size and receptive field.
    """
    from p2pkit.recipe.resolve import read_recipe

    resolved = read_recipe(recipe, overrides)

    from p2pkit.recipe.check import findings

    for line in findings(resolved):
        click.echo(line)
