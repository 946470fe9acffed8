"""``p2pkit components``: what recipes can name, with parameters, documentation and the place that defines it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from p2pkit.cli.options import JSON, say
from p2pkit.contracts import KINDS

if TYPE_CHECKING:
    from p2pkit.catalogue import ComponentDescription


HELP = f"""List the components of KIND (or of all kinds) with their parameters, types, defaults and documentation.

KIND is one of {", ".join(KINDS)}.
"""


@click.command("components", help=HELP, short_help="List what recipes can name, with parameters.")
@click.argument("kind", required=False)
@JSON
def command(kind: str | None, as_json: bool) -> None:
    """List components."""
    from p2pkit.catalogue import describe
    from p2pkit.plugins import manager

    kinds = [kind] if kind else list(KINDS)
    described = [component for each in kinds for component in describe(each)]
    for each in kinds:
        for problem in (*manager().registry(each).conflicts(), *manager().registry(each).failures):
            say(f"Warning: {problem}")
    if as_json:
        click.echo(json.dumps([component.as_json() for component in described], indent=2))
        return
    for each in kinds:
        click.echo(f"{each}:")
        for component in described:
            if component.kind == each:
                _print(component)


def _print(component: ComponentDescription) -> None:
    click.echo(f"\n  {component.name}    ({component.distribution} {component.version})")
    click.echo(f"    {component.file}:{component.line}")
    for line in component.documentation.splitlines():
        click.echo(f"    {line}".rstrip())
    if component.problem:
        click.echo(f"    CANNOT BE USED: {component.problem}")
    for name, value in component.fixed.items():
        click.echo(f"    {name} is always {value}")
    for parameter in component.parameters:
        default = "required" if parameter.required else f"default {parameter.default!r}"
        click.echo(f"    - {parameter.name}: {parameter.type}, {default}")
    click.echo()
