"""``p2pkit data``: get a data set before it is needed, and find what is wrong with one before a run does."""

from __future__ import annotations

from pathlib import Path

import click

from p2pkit.cli.options import RECIPE, SET, say
from p2pkit.plugins import manager

BROUGHT_BY = {"shard": "p2pkit-webdataset"}
"""Commands that are not built in, and the distribution of this project that brings each."""


class DataCommands(click.Group):
    """The built-in commands and those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The built-in commands, then those of plugins."""
        return [*self.commands, *sorted(set(self._of_plugins().commands) - set(self.commands))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; plugins are asked for one that is not built in."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        found = self._of_plugins().commands.get(cmd_name)
        if found is None and cmd_name in BROUGHT_BY:
            brings = BROUGHT_BY[cmd_name]
            ctx.fail(f"p2pkit data {cmd_name} is brought by a plugin that is not here: pip install {brings}")
        return found

    def _of_plugins(self) -> click.Group:
        group = click.Group()
        manager().add_data_commands(group)
        return group


@click.group("data", cls=DataCommands, short_help="Fetch a data set, or read all of one.")
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
