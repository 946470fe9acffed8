"""``p2pkit data``: get a data set before it is needed, and find what is wrong with one before a run does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import RECIPE, SET
from p2pkit.components.host import manager
from p2pkit.components.own_plugins import provided_elsewhere
from p2pkit.errors import DataError, counted, visible
from p2pkit.utils.progress import print_line


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
        if found is None and (elsewhere := provided_elsewhere(cmd_name)):
            ctx.fail(f"p2pkit data {cmd_name} is not built in; {elsewhere}")
        return found

    def _of_plugins(self) -> click.Group:
        group = click.Group()
        manager().add_commands(group, "register_data_commands", "data")
        return group


@click.group("data", cls=DataCommands, short_help="Fetch a data set, or read all of one.")
def command() -> None:
    """Fetch a data set, or read all of one to find what is wrong with it."""


@command.command("fetch", short_help="Download a data set by name.")
@click.argument("name")
def fetch(name: str) -> None:
    """Download the data set NAME to where its recipes look for it, unless it is there.

    NAME may also be a recipe (a file, or PLUGIN:RECIPE), whose data goes to where that looks for it.
    """
    from p2pkit.components.catalogue import create

    if ":" in name or Path(name).suffix == ".toml":
        from p2pkit.build import load_data
        from p2pkit.recipe.document import recipe_file
        from p2pkit.recipe.resolve import read_recipe

        pairs = load_data(read_recipe(recipe_file(name))).train
    else:
        pairs = create("datasets", name, split="train")
    for notice in getattr(pairs, "notices", ()):
        print_line(f"NOTICE: {notice}")
    click.echo(visible(f"{name}: {counted(len(pairs), 'training pair')}"))


@command.command("check", short_help="Read every pair of a recipe's data.")
@RECIPE
@SET
@click.option(
    "--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Also write a PNG of a few pairs as the "
    "networks see them: resized, augmented, cropped, flipped.",
)  # fmt: skip
def check(recipe: Path, overrides: tuple[str, ...], sheet: Path | None) -> None:
    """Read every pair of RECIPE's data set, and list all that cannot be trained on."""
    announce(f"data check {recipe}")
    from p2pkit.recipe.resolve import read_recipe

    resolved = read_recipe(recipe, overrides)
    if resolved.loader.cache == "disk":  # the files are what is to be read
        resolved = replace(resolved, loader=resolved.loader.model_copy(update={"cache": "none"}))

    from p2pkit.contact_sheets import refuse_other_endings, write_contact_sheet

    if sheet:
        refuse_other_endings(sheet)

    from p2pkit.build import augmentation, build_without_weights, load_data
    from p2pkit.cli.tables import print_classes
    from p2pkit.data.checks import cannot_be_used, check_pixels
    from p2pkit.data.class_table import count_classes, problem_of
    from p2pkit.data.found_values import find_values

    data = replace(load_data(resolved, refuse_problems=False), bad_data="skip")
    found = every = find_values(data)
    if found.sampled:
        every = find_values(data.with_ranges(found.of_percentiles(data)), every=True)
    data = data.with_ranges(found.ranges, [*every.notices, *found.beyond(every)])
    problems = data.problems if resolved.loader.bad_data == "stop" else []
    for notice in data.notices:
        if notice not in problems:
            print_line(f"NOTICE: {notice}")
    parts = build_without_weights(resolved, data)
    count, bad = check_pixels(data, augmentation(resolved), resolved.loader.batch_size > 1, parts.generator)
    for tables in count_classes(data, parts.sources, every=True):
        print_classes(tables)
        problems += filter(None, [problem_of(tables)])
    if sheet:
        write_contact_sheet(parts, sheet)
        print_line(f"pairs as the networks see them: {sheet}")
    if bad:
        problems.append(str(cannot_be_used(len(bad), count, bad)))
    if problems:
        raise DataError("\n".join(problems))
    click.echo(
        visible(f"data {resolved.data.name}: {'the one pair' if count == 1 else f'all {count} pairs'} can be used")
    )
