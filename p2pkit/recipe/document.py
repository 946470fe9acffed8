"""A recipe as written: TOML files merged along ``extends``, with ``--set`` on top, and where each key came from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pkit.errors import RecipeError
from p2pkit.recipe.named import recipe_file

EXTENDS = "extends"
COMMAND_LINE = "--set"
DEFAULTS: dict[str, Any] = {
    "generator": {"name": "unet"},
    "discriminator": {"name": "patchgan_70"},
    "losses": [{"name": "gan", "weight": 1.0}, {"name": "l1", "weight": 100.0}],
    "method": {"name": "pix2pix"},
    "optimizer": {"name": "adam"},
    "schedule": {"name": "constant"},
    "metrics": [{"name": "mae"}],
}
"""What a recipe that says nothing of them gets: the paper's pix2pix. Every recipe builds on this."""

KeyPath = tuple[str, ...]


@dataclass
class Document:
    """The merged tables of a recipe and the origin of each key."""

    file: Path
    text: str
    """The recipe file itself, as written."""
    tables: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin(self, key: str) -> str | None:
        """The file (or ``--set``) that gave the dotted ``key`` or the nearest thing above it; None for a default."""
        path = tuple(key.split("."))
        while path:
            if path in self.origins:
                return self.origins[path]
            path = path[:-1]
        return None


def read_document(file: Path, overrides: Sequence[str] = ()) -> Document:
    """The recipe in ``file`` (or PLUGIN:RECIPE) with its parents merged in and ``overrides`` (``a.b=VALUE``) applied.

    Raises:
        RecipeError: a file is missing or no TOML, ``extends`` goes in a circle, or an override cannot be placed.
    """
    file = recipe_file(str(file))
    document = Document(file, _read_text(file, None), tables=deepcopy(DEFAULTS))
    for layer_file, tables in _layers(file):
        _merge(document, (), document.tables, tables, _shown(layer_file))
    for override in overrides:
        _apply(document, override)
    return document


def _read_text(file: Path, child: Path | None) -> str:
    by = f" (named by extends in {_shown(child)})" if child else ""
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError(f"{_shown(file)}: there is no such recipe file{by}") from error
    except IsADirectoryError as error:
        raise RecipeError(f"{_shown(file)}: this is a folder, not a recipe file{by}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{_shown(file)}: the recipe cannot be read{by}: {error}") from error


def _layers(file: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The files along ``extends``, the oldest ancestor first."""
    layers: list[tuple[Path, dict[str, Any]]] = []
    child: Path | None = None
    current: Path | None = file
    while current is not None:
        if any(current.resolve() == seen.resolve() for seen, _ in layers):
            circle = " -> ".join(_shown(seen) for seen, _ in layers)
            raise RecipeError(f"extends goes in a circle: {circle} -> {_shown(current)}")
        try:
            tables = tomllib.loads(_read_text(current, child))
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{_shown(current)}: this is not valid TOML: {error}") from error
        parent = tables.pop(EXTENDS, None)
        if parent is not None and not isinstance(parent, str):
            raise RecipeError(f"{_shown(current)}: {EXTENDS}: found {parent!r}, expected the path of one recipe file")
        layers.append((current, tables))
        child, current = current, (recipe_file(parent, current.parent) if parent is not None else None)
    return layers[::-1]


def _merge(document: Document, path: KeyPath, base: dict[str, Any], layer: Mapping[str, Any], origin: str) -> None:
    """Merge ``layer`` into ``base``: tables merge, all else replaces, and a new ``name`` drops its old siblings."""
    if "name" in layer and "name" in base and layer["name"] != base["name"] and path != ("run",):
        base.clear()
        _forget(document, path)
    for key, value in layer.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(document, here, base[key], value, origin)
        elif isinstance(value, dict):
            _forget(document, here)
            base[key] = {}
            _merge(document, here, base[key], value, origin)
        else:
            _forget(document, here)
            base[key] = value
            document.origins[here] = origin
            for index, item in enumerate(value if isinstance(value, list) else ()):
                _record(document, (*here, str(index)), item, origin)


def _record(document: Document, place: KeyPath, item: Any, origin: str) -> None:
    """Note where the keys of a list's item come from, if it is a table, and those of tables in it."""
    for name, value in item.items() if isinstance(item, dict) else ():
        document.origins[*place, name] = origin
        _record(document, (*place, name), value, origin)


def _forget(document: Document, path: KeyPath) -> None:
    for known in [known for known in document.origins if known[: len(path)] == path]:
        del document.origins[known]


def parsed(override: str) -> tuple[KeyPath, Any]:
    """Key and value of ``a.b=VALUE``, as the command line gives it.

    Raises:
        RecipeError: it has another form.
    """
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise RecipeError(f"{COMMAND_LINE} {override}: expected KEY=VALUE, as in {COMMAND_LINE} train.epochs=5")
    return path, _toml_value(text.strip())


def _apply(document: Document, override: str) -> None:
    path, value = parsed(override)
    origin = f"{COMMAND_LINE} {override}"
    for position, part in enumerate(path):
        holder = _look_up(document.tables, path[:position])
        if isinstance(holder, list):
            _set_in_list(document, holder, path[:position], path[position:], value, override)
            return
        if not isinstance(holder, dict):
            raise RecipeError(f"{origin}: {'.'.join(path[:position])} is a value, so it has no key {part!r}")
        if part not in holder:
            break
    _merge(document, (), document.tables, _nested(path, value), origin)


def _set_in_list(document: Document, items: list[Any], path: KeyPath, rest: KeyPath, value: Any, override: str) -> None:
    """Place a value below ``losses.0.weight`` and the like."""
    index = int(rest[0]) if rest[0].isdigit() else len(items)
    if index >= len(items):
        allowed = f"0 to {len(items) - 1}" if items else "none: the list is empty"
        where = f"{COMMAND_LINE} {override}: {'.'.join(path)}"
        raise RecipeError(f"{where} is a list; found {rest[0]!r}, allowed: {allowed}")
    place, origin = (*path, str(index)), f"{COMMAND_LINE} {override}"
    if len(rest) == 1:
        items[index] = value
        _forget(document, place)
        _record(document, place, value, origin)
    elif isinstance(items[index], dict) and len(rest) > 2:
        _merge(document, place, items[index], _nested(rest[1:], value), origin)
    elif isinstance(items[index], dict):
        renamed = rest[1] == "name" and value != items[index].get("name")
        # a loss's weight is the recipe's, not the component's
        kept = {key: items[index][key] for key in items[index] if key == "weight" or not renamed}
        for dropped in items[index].keys() - kept.keys():
            _forget(document, (*place, dropped))
        items[index] = {**kept, rest[1]: value}
    else:
        raise RecipeError(f"{COMMAND_LINE} {override}: there is nothing to set at {'.'.join((*path, *rest))}")
    document.origins[(*path, *rest)] = origin


def _nested(path: KeyPath, value: Any) -> dict[str, Any]:
    """Tables that hold ``value`` at ``path``."""
    for part in reversed(path):
        value = {part: value}
    tables: dict[str, Any] = value
    return tables


def _look_up(tables: Any, path: KeyPath) -> Any:
    for part in path:
        tables = tables[part]
    return tables


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # a bare word: shells make quotes inside quotes a nuisance, and the value is validated like any other
        return text


def _shown(file: Path) -> str:
    try:
        return str(file.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(file)
