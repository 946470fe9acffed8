"""``p2pkit plugins``: the installed plugins, what each provides, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from p2pkit.cli.options import JSON
from p2pkit.cli.tables import print_text
from p2pkit.components.host import manager
from p2pkit.components.kinds import KINDS, kind_called
from p2pkit.errors import visible


@click.group("plugins", invoke_without_command=True, short_help="List the plugins that are installed.")
@JSON
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the installed plugins, the hooks, recipes and models that each has, and why one is left out."""
    ctx.obj = as_json
    if ctx.invoked_subcommand is None:
        _list(as_json)


@command.command("list")
@JSON
@click.pass_obj
def list_plugins(json_of_group: bool, as_json: bool) -> None:
    """List the plugins that are installed."""
    _list(as_json or json_of_group)


def _list(as_json: bool) -> None:
    # what every `p2pkit --help` makes them do as well
    manager().add_commands(click.Group())
    manager().add_commands(click.Group(), "register_data_commands", "data")
    plugins = manager().plugins
    if as_json:
        described = [
            {**asdict(plugin), "recipes": list(plugin.recipes()), "models": list(plugin.models())} for plugin in plugins
        ]
        click.echo(json.dumps(described, indent=2))
        return
    for plugin in plugins:
        print_text(visible(f"{plugin.name}    {plugin.distribution} {plugin.version}    {plugin.module}"))
        if plugin.problem:
            print_text(f"LEFT OUT: {plugin.problem}", indent=2)
        provided = [("recipe", name) for name in plugin.recipes()] + [("model", name) for name in plugin.models()]
        for line in (*plugin.hooks, *(f"{what} {plugin.owner}:{name}" for what, name in provided)):
            print_text(line, indent=2)


@command.command("new", short_help="Write a distribution to start a plugin from.")
@click.argument("name")
@click.option(
    "--kind",
    metavar="KIND",
    default="generators",
    show_default=True,
    help=f"What it provides: {', '.join(KINDS)}.",
)
def new_plugin(name: str, kind: str) -> None:
    """Write the distribution p2pkit-NAME here: a working component called NAME, its tests and a recipe."""
    from p2pkit.new_plugin.names import checked_names
    from p2pkit.new_plugin.writing import write_distribution

    names = checked_names(name, kind_called(kind))
    folder = write_distribution(names, Path()).as_posix()
    click.echo(
        f"{folder}/ has the {names.singular} {names.name}, in {names.package}/{names.module}.py. Next:\n\n"
        f"    pip install -e ./{folder}\n"
        f"    p2pkit run {names.name}:quickstart\n\n"
        f"Its tests: pip install -e './{folder}[test]' && cd {folder} && pytest"
    )
