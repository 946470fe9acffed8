"""``p2pkit show``: a recipe with its parents and defaults filled in."""

from __future__ import annotations

from pathlib import Path

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import RECIPE, SET


@click.command("show", short_help="Print a recipe in full, and where each key is from.")
@RECIPE
@SET
def command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Print RECIPE with parents and defaults filled in; behind each key, the file that it came from."""
    announce(f"show {recipe}")
    from p2pkit.recipe.resolve import read_recipe

    click.echo(read_recipe(recipe, overrides).toml(with_origins=True), nl=False)
