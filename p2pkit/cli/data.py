"""``p2pkit data``: get a data set before it is needed, and find what is wrong with one before a run does."""

from __future__ import annotations

from pathlib import Path

import click

from p2pkit.cli.options import RECIPE, SET, say


@click.group("data", short_help="Fetch a data set, or read all of one.")
def command() -> None:
    """Fetch a data set, or read all of one to find what is wrong with it."""


@command.command("fetch", short_help="Download a data set by name.")
@click.argument("name")
def fetch(name: str) -> None:
    """Download the data set NAME to where its recipes look for it, unless it is there."""
    from p2pkit.catalogue import create

    pairs = create("datasets", name, split="train")
    for notice in getattr(pairs, "notices", ()):
        say(f"NOTICE: {notice}")
    click.echo(f"{name}: {len(pairs)} training pairs")


@command.command("check", short_help="Read every pair of a recipe's data.")
@RECIPE
@SET
def check(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Read every pair of RECIPE's data set, and tell all that cannot be trained on."""
    from p2pkit.recipe.resolve import read_recipe

    resolved = read_recipe(recipe, overrides)

    from p2pkit.recipe.data_check import bad_pairs
    from p2pkit.recipe.data_rules import cannot_be_used

    count, bad = bad_pairs(resolved)
    if bad:
        raise cannot_be_used(len(bad), count, bad)
    click.echo(f"data {resolved.data.name}: all {count} pairs can be used")
