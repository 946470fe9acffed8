"""The JSON Schema of recipes, with the parameters of every component that is installed. Editors complete from it."""

from __future__ import annotations

from typing import Any

from p2pkit.components.host import manager
from p2pkit.components.registry import Registered
from p2pkit.components.signature import parameters_model
from p2pkit.errors import PluginError
from p2pkit.recipe.document import DEFAULTS
from p2pkit.recipe.resolve import COMPONENT_LISTS, COMPONENTS, OPTIONAL_COMPONENTS, SETTINGS
from p2pkit.settings import OptimizerSettings

_REFERENCES = "#/$defs/{model}"


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for the components that are installed here."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {"extends": {"type": "string", "description": "the recipe that this one builds on"}}
    for name, settings in SETTINGS.items():
        properties[name] = _without_definitions(settings.model_json_schema(ref_template=_REFERENCES), definitions)
        # a recipe may leave to its parent, or to the defaults, what a section requires in the end
        properties[name].pop("required", None)
    properties["optimizer"]["additionalProperties"] = {"$ref": "#/$defs/optimizer_of_one_network"}
    definitions["optimizer_of_one_network"] = OptimizerSettings.model_json_schema()
    for name, kind in {**COMPONENTS, **OPTIONAL_COMPONENTS}.items():
        properties[name] = _one_of(kind, definitions, default=DEFAULTS.get(name, {}).get("name"))
    for name, kind in COMPONENT_LISTS.items():
        properties[name] = {"type": "array", "items": _one_of(kind, definitions)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "p2pkit recipe",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _one_of(kind: str, definitions: dict[str, Any], default: str | None = None) -> dict[str, Any]:
    """A table whose keys depend on its ``name``; without one, any keys may be meant for the parent recipe's name."""
    names, cases = [], []
    for registered in manager().registry(kind):
        try:
            keys = _keys(registered, kind, definitions)
        except PluginError:
            continue  # shown by `p2pkit components`; a recipe that names it fails there
        names.append(registered.name)
        named = {"properties": {"name": {"const": registered.name}}, "required": ["name"]}
        cases.append({"if": named, "then": {"properties": keys, "additionalProperties": False}})
    return {"type": "object", "properties": {"name": {"enum": names, "default": default}}, "allOf": cases}


def _keys(registered: Registered, kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _without_definitions(
        parameters_model(registered, kind).model_json_schema(ref_template=_REFERENCES), definitions
    )
    weight = {"weight": {"type": "number", "minimum": 0, "default": 1.0}} if kind == "losses" else {}
    return {"name": {"const": registered.name}, **weight, **schema.get("properties", {})}


def _without_definitions(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    definitions |= schema.pop("$defs", {})
    return schema
