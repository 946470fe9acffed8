"""The JSON Schema of recipes, with the parameters of every component that is installed. Editors complete from it."""

from __future__ import annotations

import json
from typing import Any

from p2pkit.components.host import manager
from p2pkit.components.signature import table_model
from p2pkit.errors import PluginError
from p2pkit.recipe.document import DEFAULTS
from p2pkit.recipe.resolve import COMPONENT_LISTS, COMPONENTS, OPTIONAL_COMPONENTS, SETTINGS

_REFERENCES = "#/$defs/{model}"


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for the components that are installed here."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {"extends": {"type": "string", "description": "the recipe that this one builds on"}}
    for name, settings in SETTINGS.items():
        properties[name] = _without_definitions(settings.model_json_schema(ref_template=_REFERENCES), definitions)
        # a recipe may leave to its parent, or to the defaults, what a section requires in the end
        properties[name].pop("required", None)
    one_source = {**properties["source"], "additionalProperties": False}
    one_source["properties"] = {**one_source["properties"], "encoding": _one_of("encodings", definitions)}
    properties["source"]["additionalProperties"] = one_source
    definitions["optimizer_of_one_network"] = _one_of("optimizers", definitions)
    for name, kind in {**COMPONENTS, **OPTIONAL_COMPONENTS}.items():
        rest = {"$ref": "#/$defs/optimizer_of_one_network"} if name == "optimizer" else False
        properties[name] = _one_of(kind, definitions, DEFAULTS.get(name, {}).get("name"), rest)
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


def _one_of(kind: str, definitions: dict[str, Any], default: str | None = None, rest: Any = False) -> dict[str, Any]:
    """A table whose keys depend on its ``name``; without one, any keys may be meant for the parent recipe's name.

    ``rest`` is the schema of all other keys, False where there are none.
    """
    names: list[str] = []
    alike: dict[str, list[str]] = {}
    for registered in manager().registry(kind):
        try:
            schema = table_model(registered, kind).model_json_schema(ref_template=_REFERENCES)
        except PluginError:
            continue  # shown by `p2pkit components`; a recipe that names it fails there
        names.append(registered.name)
        keys = _without_definitions(schema, definitions).get("properties", {})
        alike.setdefault(json.dumps(keys), []).append(registered.name)
    cases = []
    for text, those in alike.items():
        named, keys = {"enum": those}, json.loads(text)
        when = {"properties": {"name": named}, "required": ["name"]}
        cases.append({"if": when, "then": {"properties": {"name": named, **keys}, "additionalProperties": rest}})
    return {"type": "object", "properties": {"name": {"enum": names, "default": default}}, "allOf": cases}


def _without_definitions(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    definitions |= schema.pop("$defs", {})
    return schema
