"""What an editor says of a recipe: every recipe of the repository is accepted, and every key is described."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import jsonschema
import pytest

import p2pkit as library
from p2pkit.components.kinds import KINDS
from p2pkit.recipe.schema import PUBLISHED, recipe_schema, schema_line
from tests.conftest import REPOSITORY, Call
from tests.plugins_in_tree import describe_in, installed

SHIPPED = sorted((REPOSITORY / "recipes").glob("*.toml"))
OF_PLUGINS = sorted((REPOSITORY / "plugins").glob("**/recipes/*.toml"))
SAYS_NO_MORE = "which says no more of it"


@pytest.fixture(scope="module")
def published() -> Any:
    return json.loads(PUBLISHED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def with_plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The schema where the plugins of this repository are installed."""
    with installed(describe_in(tmp_path_factory.mktemp("plugins"))):
        yield recipe_schema()


def keys_in(schema: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Each key that a schema has a property for, by its place, and what it says of it; conditions name no keys."""
    if isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from keys_in(each, f"{place}[{index}]")
    if not isinstance(schema, dict):
        return
    for key, property_ in schema.get("properties", {}).items():
        yield f"{place}.{key}", property_
        yield from keys_in(property_, f"{place}.{key}")
    for name, part in schema.items():
        if name == "$defs":
            for key, definition in part.items():
                yield from keys_in(definition, f"{place}#{key}")
        elif name not in ("if", "properties"):
            yield from keys_in(part, f"{place}/{name}")


def shown(root: Any, schema: Any, path: list[str | int]) -> list[str]:
    """What taplo, which is Even Better TOML, shows over a key: it follows these words of a schema and no others."""
    if not isinstance(schema, dict):
        return []
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return shown(root, target, path)
    found = []
    for word in ("oneOf", "anyOf", "allOf"):
        for each in schema.get(word, ()):
            found += shown(root, each, path)
    if not path:
        return [*found, *([schema["description"]] if "description" in schema and "allOf" not in schema else [])]
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        return [*found, *shown(root, schema.get("items"), rest)]
    found += shown(root, schema.get("properties", {}).get(first), rest)
    return [*found, *shown(root, schema.get("additionalProperties"), rest)]


def paths_in(tables: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all keys of a recipe, tables among them."""
    if isinstance(tables, dict):
        for key, value in tables.items():
            yield (*path, key)
            # below these a component's parameter is a table of any keys, or of those of a component that is not known
            if key not in ("timm", "of"):
                yield from paths_in(value, (*path, key))
    elif isinstance(tables, list):
        for index, each in enumerate(tables):
            yield from paths_in(each, (*path, index))


def undescribed(schema: Any, tables: Any) -> list[str]:
    return [".".join(map(str, path)) for path in paths_in(tables) if not shown(schema, schema, list(path))]


def test_every_key_is_described(published: Any, with_plugins: Any) -> None:
    for schema in (published, with_plugins):
        jsonschema.Draft202012Validator.check_schema(schema)
        keys = list(keys_in(schema))
        described = [place for place, says in keys if says.get("description", "").strip()]
        assert [place for place, _ in keys if place not in described] == []
        assert len(described) == len(keys) > 129
        assert SAYS_NO_MORE not in json.dumps(schema)
        assert "``" not in json.dumps(schema)


def test_the_published_schema_is_up_to_date(published: Any) -> None:
    """Of timm's optimizers, which change from version to version, the keys alone."""
    now = recipe_schema(published=True)
    of_timm = ("optimizer", "#optimizer_of_one_network")

    def told(schema: Any) -> dict[str, Any]:
        found = {}
        for place, says in keys_in(schema):
            if not place.lstrip(".").startswith(of_timm):
                found[place] = (says.get("description"), says.get("default"), says.get("enum"))
            elif "/" not in place:
                found[place] = says.get("description") is not None
        return found

    assert told(published) == told(now), "see CONTRIBUTING.md: python -m p2pkit.recipe.schema"


@pytest.mark.parametrize("file", [*SHIPPED, *OF_PLUGINS], ids=lambda file: file.stem)
def test_recipes_of_the_repository_are_accepted_and_described(file: Path, published: Any, with_plugins: Any) -> None:
    tables = tomllib.loads(file.read_text())
    for schema in (published, with_plugins):
        jsonschema.validate(tables, schema)
    assert undescribed(with_plugins, tables) == []
    if file in SHIPPED:
        assert undescribed(published, tables) == []
        directive = file.read_text().partition("\n")[0].removeprefix("#:schema ")
        assert (file.parent / directive).resolve() == PUBLISHED.resolve()


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_of_new_plugins_are_accepted_and_described(
    kind: str, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert p2pkit("plugins", "new", f"new_{kind}", "--kind", kind).code == 0
    (distribution,) = tmp_path.iterdir()
    tables = tomllib.loads(next(distribution.glob("*/recipes/quickstart.toml")).read_text())
    schema = p2pkit("--plugins-dir", distribution, "schema").json
    for each in (published, schema):
        jsonschema.validate(tables, each)
    assert undescribed(schema, tables) == []
    assert f'"new_{kind}"' in json.dumps(schema) or kind in ("exporters", "image_formats")


def test_a_typing_error_is_marked_and_a_plugins_component_is_not(published: Any) -> None:
    for wrong in (
        {"genrator": {}},
        {"train": {"epoch": 1}},
        {"generator": {"name": "unet", "dpeth": 1}},
        {"generator": {"name": "unet", "depth": 99}},
        {"optimizer": {"name": "adam", "momentum": 0.5}},
        {"optimizer": {"generator": {"name": "adam", "learning_rate": 1.0}}},
        {"losses": [{"name": "l1", "wieght": 1}]},
        {"source": {"depth": {"encoding": {"name": "one_hot", "clases": 3}}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, published)
    jsonschema.validate(
        {
            "generator": {"name": "a_plugins", "depth": "any", "whatever": 1},
            "optimizer": {"name": "a_plugins", "rate": 1, "generator": {"name": "adam", "lr": 1.0}},
            "losses": [{"name": "l1", "weight": 1}, {"name": "a_plugins", "epsilon": "any"}],
        },
        published,
    )


def test_keys_below_tables_and_lists_are_found_as_an_editor_looks_for_them(published: Any) -> None:
    def over(*path: str | int) -> str:
        return "\n".join(shown(published, published, list(path)))

    assert "learning rate" in over("optimizer", "discriminator", "lr")
    assert "multiplied" in over("losses", 0, "weight")
    assert "rises" in over("schedule", "warmup")
    assert "classes" in over("source", "labels", "encoding", "classes")
    assert "val set" in over("data", "split")
    assert "unet: " in over("generator", "width") and "resnet: " in over("generator", "width")
    assert "translates" in over("generator")
    assert over("generator", "widht") == ""


def test_the_command_line_and_the_schema_say_the_same(p2pkit: Call) -> None:
    schema = p2pkit("schema").json
    summaries = schema["properties"]["data"]["properties"]["name"]["x-taplo"]["docs"]["enumValues"]
    names = schema["properties"]["data"]["properties"]["name"]["enum"]
    for component in p2pkit("components", "datasets", "--json").json:
        for parameter in component["parameters"]:
            assert parameter["help"] in "\n".join(shown(schema, schema, ["data", parameter["name"]]))
    assert dict(zip(names, summaries, strict=True))["facades"] in " ".join(p2pkit("components", "datasets").out.split())


def test_the_line_of_generated_recipes_leads_an_editor_to_the_published_schema() -> None:
    url = urlsplit(schema_line().removeprefix("#:schema "))
    assert url.scheme == "file" and PUBLISHED.samefile(url2pathname(url.path))
    assert PUBLISHED.is_relative_to(Path(library.__file__).parent)
