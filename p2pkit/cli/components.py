"""``p2pkit components``: what recipes can name, with parameters, documentation and the place that defines it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

from p2pkit.cli.main import announce
from p2pkit.cli.options import JSON
from p2pkit.cli.tables import print_table, print_text
from p2pkit.components.discovery import OWN_DISTRIBUTION
from p2pkit.components.kinds import KINDS, SINGULAR, kind_called
from p2pkit.errors import UnknownComponent, did_you_mean
from p2pkit.utils.progress import print_line

if TYPE_CHECKING:
    from p2pkit.components.catalogue import ComponentDescription, ParameterDescription


HELP = f"""List what recipes can name: all of it, or the components of one KIND.

With the NAME of a component instead, show that one whole: its documentation, and its parameters with their types
and defaults.

KIND is one of {", ".join(KINDS)}, in the singular or the plural.
"""


def _kinds(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    # not the names of components: they are known once PyTorch is imported, which takes seconds
    return [kind for kind in KINDS if kind.startswith(incomplete)]


@click.command("components", help=HELP, short_help="List what recipes can name; show one component.")
@click.argument("kind_or_name", metavar="[KIND|NAME]", required=False, shell_complete=_kinds)
@JSON
def command(kind_or_name: str | None, as_json: bool) -> None:
    """List components."""
    announce(f"components {kind_or_name or ''}".rstrip())
    from p2pkit.components.catalogue import describe, describe_named

    kind = _kind(kind_or_name)
    name = None if kind else kind_or_name
    kinds = [kind] if kind else list(KINDS)
    _warn(kinds)
    described = describe_named(name) if name else [component for each in kinds for component in describe(each)]
    if name and not described:
        raise _unknown(name)
    if as_json:
        click.echo(json.dumps([component.as_json() for component in described], indent=2))
    elif name:
        for index, component in enumerate(described):
            click.echo("\n" if index else "", nl=False)
            _show(component)
    else:
        for each in kinds:
            _list(each, [component for component in described if component.kind == each])
        click.echo("p2pkit components NAME shows one with all its parameters.")


def _kind(text: str | None) -> str | None:
    try:
        return kind_called(text) if text else None
    except UnknownComponent:  # it may be a component's name
        return None


def _warn(kinds: list[str]) -> None:
    from p2pkit.components.host import manager

    registries = [manager().registry(kind) for kind in kinds]
    problems = [problem for registry in registries for problem in (*registry.conflicts(), *registry.failures)]
    for problem in dict.fromkeys(problems):  # a plugin that failed is missed in every kind
        print_line(f"Warning: {problem}")


def _unknown(text: str) -> UnknownComponent:
    from p2pkit import components

    names = [name for kind in KINDS for name in components(kind)]
    guess = did_you_mean(text, [*KINDS, *SINGULAR.values(), *names])
    return UnknownComponent(
        f"there is neither a kind nor a component {text!r}{guess}\n"
        f"  kinds: {', '.join(KINDS)}\n"
        "  p2pkit components lists all components"
    )


def _list(kind: str, described: list[ComponentDescription]) -> None:
    click.echo(f"{kind}:")
    print_table([(component.name, _summary(component)) for component in described], header=("", ""), indent=2)
    click.echo()


def _summary(component: ComponentDescription) -> str:
    text = component.summary
    if component.distribution != OWN_DISTRIBUTION:
        text += f" ({component.distribution} {component.version})"
    return f"{text.strip()}\n{_problem(component)}".strip()


def _show(component: ComponentDescription) -> None:
    origin = f"{component.distribution} {component.version}"
    print_text(f"{component.name} ({SINGULAR[component.kind]}, {origin})")
    if component.file:
        print_text(f"{component.file}:{component.line}")
    if component.problem:
        print_text(_problem(component))
    if component.variant:
        print_text(component.variant)
    # without parameters, what is said of them is not in a table below
    documentation = component.prose if component.parameters else component.documentation
    for paragraph in re.split(r"\n\s*\n", documentation):
        click.echo()
        print_text(_joined(_plain(paragraph)))
    click.echo()
    if component.parameters:
        rows = [(each.name, each.type, _default(each), each.help) for each in component.parameters]
        print_table(rows, header=("parameter", "type", "default", "meaning"))
    elif not component.problem:
        click.echo("It has no parameters.")


def _problem(component: ComponentDescription) -> str:
    return " ".join(f"CANNOT BE USED: {component.problem}".split()) if component.problem else ""


def _default(parameter: ParameterDescription) -> str:
    if parameter.required:
        return "required"
    return "not set" if parameter.default is None else _toml(parameter.default)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> str:
    return text.replace("``", "`")


def _joined(paragraph: str) -> str:
    """The lines of running text as one, to be wrapped anew; lists and examples keep theirs."""
    lines = paragraph.splitlines()
    keep = any(line.startswith((" ", "- ", "* ")) for line in lines)
    return paragraph if keep else " ".join(lines)
