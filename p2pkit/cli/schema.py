"""``p2pkit schema``: the JSON Schema of recipes, for editors."""

from __future__ import annotations

import json

import click

from p2pkit.cli.main import announce


@click.command("schema", short_help="Print the JSON Schema of recipes, for editors.")
def command() -> None:
    """Print the JSON Schema of recipes with all components that are installed, those of plugins too.

    An editor completes, explains and checks a recipe whose first line is "#:schema ./p2pkit.schema.json" once the
    schema is there: p2pkit schema > p2pkit.schema.json
    """
    announce("schema")
    from p2pkit.recipe.schema import recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=2))
