"""Recipes inside plugins, found by name: ``PLUGIN:RECIPE`` is ``recipes/RECIPE.toml`` in that plugin's package."""

from __future__ import annotations

import sys
from pathlib import Path

from p2pkit.errors import RecipeError, did_you_mean
from p2pkit.plugin import Plugin
from p2pkit.plugins import manager


def recipe_file(name: str, folder: Path = Path()) -> Path:
    """The file that ``name`` means: a path from ``folder`` on, or PLUGIN:RECIPE.

    Raises:
        RecipeError: it names no plugin that is here, or none of its recipes.
    """
    file = folder / name
    owner, colon, recipe = name.partition(":")
    if not colon or file.exists() or "/" in name or "\\" in name:
        return file
    plugins = {plugin.name: plugin for plugin in manager().plugins}
    if owner not in plugins:
        known = [known for known, plugin in plugins.items() if recipes_of(plugin)]
        listed = f"those with recipes: {', '.join(known) or 'none'}"
        raise RecipeError(f"{name}: there is no plugin {owner!r}{did_you_mean(owner, plugins)}; {listed}")
    plugin = plugins[owner]
    if plugin.problem:
        raise RecipeError(f"{name}: the plugin {plugin.origin} is left out: {plugin.problem}")
    found = recipes_of(plugin)
    if recipe not in found:
        there = f"there are: {', '.join(found) or 'none'}"
        raise RecipeError(
            f"{name}: the plugin {plugin.origin} has no such recipe{did_you_mean(recipe, found)}; {there}"
        )
    return found[recipe]


def recipes_of(plugin: Plugin) -> dict[str, Path]:
    """The recipes inside a plugin's package by name; none where its module is in no package."""
    module = sys.modules.get(plugin.module.partition(":")[0])
    folders = getattr(sys.modules.get(getattr(module, "__package__", None) or ""), "__path__", ())
    files = sorted(file for folder in folders for file in Path(folder, "recipes").glob("*.toml"))
    return {file.stem: file for file in files}
