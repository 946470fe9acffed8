"""The JSON Schema of recipes, with all components and their parameters. Editors complete and explain recipes by it.

What editors for TOML (taplo, and Even Better TOML, which is taplo) know of a key they find by ``properties``,
``additionalProperties``, ``items`` and ``anyOf``, and never in the branches of an ``if``; nor do they see a table that
has ``allOf``. So a table of a component has the keys of all components of its kind with what is said of them, and
chained conditions beside these say which of them go with its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from p2pkit.components.catalogue import ComponentDescription, as_text, describe
from p2pkit.components.discovery import OWN_DISTRIBUTION
from p2pkit.components.host import manager
from p2pkit.components.signature import table_model
from p2pkit.recipe.document import DEFAULTS, EXTENDS
from p2pkit.recipe.resolve import COMPONENT_LISTS, COMPONENTS, OPTIONAL_COMPONENTS, SETTINGS

PUBLISHED = Path(__file__).with_name("schema.json")
"""The schema of the built-ins, a part of the package; ``python -m p2pkit.recipe.schema`` prints it."""
ONE_NETWORK = {"$ref": "#/$defs/optimizer_of_one_network"}
LIKE_SECTION = "x-p2pkit-section"
"""In the JSON Schema of a component's parameter: it is a table as that section of recipes is."""
NO_TABLE = {"not": {"type": "object"}}
SECTIONS: Mapping[str, str] = {
    "data": "The data set: where the images come from, and how they become pairs.",
    "generator": "The network that translates: source to target.",
    "discriminator": "The network that tells targets from what the generator makes.",
    "encoding": "What the networks see in place of the source, such as one channel a class of a label map.",
    "method": "Who owns the training step: which networks are updated, and in which order.",
    "optimizer": "How the weights of every network are updated; [optimizer.NETWORK] has what is different for one.",
    "schedule": "What the learning rate of every optimizer is multiplied by in the course of the run.",
    "augmentations": "Further augmentations of the train set, in this order: between resizing and crop.",
    "losses": "What training lowers: the sum of these, each times its weight.",
    "metrics": "What is measured of outputs against targets, on the val or the test set.",
    "callbacks": "What is called at the run's events, and may end it.",
}
"""What each section of components is for."""


def recipe_schema(published: bool = False) -> dict[str, Any]:
    """The JSON Schema of a recipe, for the components that are installed here.

    ``published``: for the built-ins alone, where a name that is not theirs, with any keys, is no mistake.
    """
    return _Schema(published).whole()


def schema_line() -> str:
    """The first line of a recipe by which an editor on this machine finds the published schema."""
    return f"#:schema {PUBLISHED.absolute().as_uri()}"


class _WithoutTitles(GenerateJsonSchema):
    """pydantic's, without titles: they are the names of keys and classes once more, and editors show them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass
class _Schema:
    published: bool
    definitions: dict[str, Any] = field(default_factory=dict)

    def whole(self) -> dict[str, Any]:
        text = "The recipe that this one builds on: its path from here, or PLUGIN:RECIPE."
        properties: dict[str, Any] = {EXTENDS: {"type": "string", "description": text}}
        for name, settings in SETTINGS.items():
            properties[name] = self._of_model(settings)
            # a recipe may leave to its parent, or to the defaults, what a section requires in the end
            properties[name].pop("required", None)
        one_source = {**properties["source"], "additionalProperties": False}
        one_source["description"] = "One of several sources: it has the keys of [source] where it has none of its own."
        encoding = self._table("encoding", "encodings")
        one_source["properties"] = {**one_source["properties"], "encoding": encoding}
        properties["source"]["additionalProperties"] = one_source
        self.definitions["optimizer_of_one_network"] = self._table("optimizer", "optimizers") | {
            "description": "The optimizer of this network, with the keys of [optimizer] where it has none of its own."
        }
        for name, kind in {**COMPONENTS, **OPTIONAL_COMPONENTS}.items():
            rest = ONE_NETWORK if name == "optimizer" else False
            properties[name] = self._table(name, kind, DEFAULTS.get(name, {}).get("name"), rest)
        for name, kind in COMPONENT_LISTS.items():
            one = self._table(name, kind)
            properties[name] = {"type": "array", "description": SECTIONS[name], "items": one}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "p2pkit recipe",
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "$defs": self.definitions,
        }

    def _table(self, section: str, kind: str, default: str | None = None, rest: Any = False) -> dict[str, Any]:
        """A table whose keys depend on its ``name``; without one, any keys may be meant for the parent recipe's name.

        ``rest`` is the schema of all other keys, False where there are none.
        """
        components = [(one, self._keys(one)) for one in describe(kind) if self._is_shown(one)]
        names, summaries = [one.name for one, _ in components], [one.summary or one.name for one, _ in components]
        known = {"enum": names, "x-taplo": {"docs": {"enumValues": summaries}}}
        says: dict[str, Any] = {"description": f"A component; `p2pkit components {kind}` lists them."}
        name: dict[str, Any] = says | ({} if default is None else {"default": default})
        name |= {"anyOf": [known, {"type": "string"}]} if self.published else known
        table: dict[str, Any] = {"type": "object", "description": SECTIONS[section]}
        table["properties"] = {"name": name, **_any_of(components, self.published)}
        alike: dict[str, list[str]] = {}
        for one, keys in components:
            alike.setdefault(json.dumps(keys), []).append(one.name)
        otherwise: dict[str, Any] = {}
        for text, those in alike.items():
            when = {"properties": {"name": {"enum": those}}, "required": ["name"]}
            then = {"properties": {"name": says, **json.loads(text)}, "additionalProperties": rest}
            otherwise = {"if": when, "then": then} | ({"else": otherwise} if otherwise else {})
        if not self.published:
            table["additionalProperties"] = rest
        elif rest:  # the keys of a plugin's component may be anything
            table["additionalProperties"] = {"anyOf": [rest, NO_TABLE]}
        return table | otherwise

    def _is_shown(self, one: ComponentDescription) -> bool:
        # a component with a problem is shown by `p2pkit components`, and a recipe that names it fails there
        return not one.problem and (one.distribution == OWN_DISTRIBUTION or not self.published)

    def _keys(self, one: ComponentDescription) -> dict[str, Any]:
        """The keys of the table of a component, but for its name."""
        schema = self._of_model(table_model(manager().registry(one.kind).get(one.name), one.kind))
        keys: dict[str, Any] = schema.get("properties", {})
        for each in one.parameters:
            if section := keys[each.name].pop(LIKE_SECTION, None):
                keys[each.name] = {"anyOf": [{"$ref": f"#/properties/{section}"}]}
            keys[each.name]["description"] = each.help or f"{each.type}, of {one.name}, which says no more of it."
        return keys

    def _of_model(self, model: Any) -> dict[str, Any]:
        schema: dict[str, Any] = model.model_json_schema(
            ref_template="#/$defs/{model}", schema_generator=_WithoutTitles
        )
        self.definitions |= schema.pop("$defs", {})
        schema.pop("title", None)
        plain: dict[str, Any] = _in_plain_words(schema)
        return plain


def _any_of(components: list[tuple[ComponentDescription, dict[str, Any]]], published: bool) -> dict[str, Any]:
    """The keys of all components; where several mean different things by one, with the names of whose meaning it is."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for one, keys in components:
        for key, schema in keys.items():
            found.setdefault(key, []).append((one.name, schema))
    merged = {}
    for key, schemas in found.items():
        texts: dict[str, list[str]] = {}
        for name, schema in schemas:
            texts.setdefault(schema["description"], []).append(name)
        several = "\n".join(f"- {', '.join(names)}: {text}" for text, names in texts.items())
        merged[key] = {"description": several if len(texts) > 1 else next(iter(texts))}
        # by a key of this name a component that is not known here may mean another type
        if not published and all(schema == schemas[0][1] for _, schema in schemas):
            merged[key] = schemas[0][1]
    return merged


def _in_plain_words(schema: Any) -> Any:
    """A schema without the defaults that TOML cannot write, and with descriptions that need no reStructuredText."""
    if isinstance(schema, list):
        return [_in_plain_words(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _in_plain_words(value) for key, value in schema.items() if (key, value) != ("default", None)}
    if isinstance(plain.get("description"), str):
        plain["description"] = as_text(plain["description"])
    return plain


if __name__ == "__main__":
    json.dump(recipe_schema(published=True), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
