"""A recipe as written: TOML files merged along ``extends``, with ``--set`` on top, and where each key came from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from p2pkit.components.host import manager
from p2pkit.components.signature import is_plain
from p2pkit.components.type_words import written
from p2pkit.errors import NOT_UTF_8, P2PKitError, PluginError, RecipeError
from p2pkit.utils.opening import DEEPEST, IrregularFile, limits, over, parsed_toml, read_regular
from p2pkit.utils.paths import usable_path

EXTENDS = "extends"
_SIZE = "recipe_bytes"
MOST_LAYERS = 50
"""How many files may build one on another."""
COMMAND_LINE = "--set"
DEFAULTS: dict[str, Any] = {
    "augmentations": [],
    "generator": {"name": "unet"},
    "discriminator": {"name": "patchgan_70"},
    "losses": [{"name": "gan", "weight": 1.0}, {"name": "l1", "weight": 100.0}],
    "method": {"name": "pix2pix"},
    "optimizer": {"name": "adam"},
    "schedule": {"name": "constant"},
    "metrics": [{"name": "mae"}, {"name": "psnr"}, {"name": "ssim"}],
    "callbacks": [],
}
"""What a recipe that says nothing of them gets: the paper's pix2pix. Every recipe builds on this."""
LOSSES_WITHOUT_DISCRIMINATOR: list[dict[str, Any]] = [{"name": "l1"}]
"""The default losses of a method that trains without a discriminator."""

_COMMON_MISTAKES = {
    "Cannot declare": "write a section once, with the keys of both in it",
    "Cannot overwrite": "a key is set once, so take one of the two lines out",
    "Expected '=' after a key": "write keys and values as key = value",
}
"""What the parser says of these, and what to do."""

KeyPath = tuple[str, ...]
Source = Path | str | Mapping[str, Any]
"""A recipe file, PLUGIN:RECIPE, or the tables of a recipe."""
Overrides = Sequence[str] | Mapping[str, Any]
"""What is set on top of a recipe: texts such as "train.epochs=5", whose values are TOML, or values by dotted key."""


@dataclass
class Document:
    """The merged tables of a recipe and the origin of each key."""

    file: Path
    text: str
    """The recipe file itself, as written."""
    tables: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin(self, key: str) -> str | None:
        """Which file (or ``--set``) gave the dotted ``key``, or what is above or below it; None for a default."""
        whole = tuple(key.split("."))
        for length in range(len(whole), 0, -1):
            if whole[:length] in self.origins:
                return self.origins[whole[:length]]
        return next((origin for known, origin in self.origins.items() if known[: len(whole)] == whole), None)


def read_document(source: Source, overrides: Overrides = ()) -> Document:
    """The recipe in ``source`` with its parents merged in and ``overrides`` applied.

    Raises:
        RecipeError: a file is missing or no TOML, ``extends`` goes in a circle, or an override cannot be placed.
    """
    if isinstance(source, Mapping):
        file, text = Path("recipe"), _as_toml(source)
    else:
        file = recipe_file(str(source))
        text = _read_text(file, None)
    document = Document(file, text, tables=deepcopy(DEFAULTS))
    for layer_file, tables in _layers(file, text):
        _merge(document, (), document.tables, tables, _shown(layer_file))
    for override in overrides.items() if isinstance(overrides, Mapping) else overrides:
        if isinstance(override, str):
            path, value = parsed(override)
        else:
            path, value = tuple(override[0].split(".")), _plain(override[1])
            override = f"{override[0]}={override[1]}"
        _apply(document, path, value, f"{COMMAND_LINE if isinstance(overrides, Sequence) else 'overrides'} {override}")
    return document


def recipe_file(name: str, folder: Path = Path()) -> Path:
    """The file that ``name`` means: a path from ``folder`` on, or PLUGIN:RECIPE, which is in a plugin's ``recipes/``.

    Raises:
        RecipeError: it names no plugin that is installed, or none of its recipes.
    """
    file = folder / name
    try:
        if file.exists():
            return file
    except OSError:  # said below
        pass
    if ":" not in name or "/" in name or "\\" in name:
        try:
            return folder / usable_path(Path(name), folder=folder)
        except ValueError as error:
            raise RecipeError(f"recipe {name!r}: expected {error}") from error
    try:
        return manager().provided("recipe", name)
    except PluginError as error:
        raise RecipeError(str(error)) from error


def _as_toml(tables: Mapping[str, Any]) -> str:
    try:
        return tomlkit.dumps({key: value for key, value in _plain(tables).items() if value is not None})
    except (TypeError, ValueError) as error:
        wrong = [f"{key} = {value!r}" for key, value in flattened(tables).items() if not is_plain(value)]
        raise RecipeError(
            f"the recipe given as a mapping holds what TOML does not have: {', '.join(wrong) or error}; give texts, "
            "numbers, true or false, lists and tables of these"
        ) from error


def _plain(value: Any) -> Any:
    """Values of Python as TOML has them: paths as text, tuples as lists, nothing for None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    plain = str(value) if isinstance(value, Path) else value
    if isinstance(plain, str) and set(plain) & NOT_UTF_8:
        raise RecipeError(f"{plain}: expected a path or a text in UTF-8, as recipes hold no other; rename it")
    return plain


def _read_text(file: Path, child: Path | None) -> str:
    by = f" (named by extends in {_shown(child)})" if child else ""
    try:
        most = limits().recipe_bytes
        content = read_regular(file, most)
        if len(content) > most:
            needed = max(file.stat().st_size, len(content))
            raise RecipeError(f"{_shown(file)}: the recipe is larger than recipes are{by}; {over(_SIZE, needed)}")
        # some editors begin a file with a byte order mark, and lines end as each system has it
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        if "\0" in text:
            raise RecipeError(f"{_shown(file)}: the recipe is in UTF-16, or is not a text{by}; save it as UTF-8")
        return text
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError(f"{_shown(file)}: there is no such recipe file, or folder{by}; check the path") from error
    except IsADirectoryError as error:
        raise RecipeError(f"{_shown(file)}: this is a folder, not a recipe file{by}; give the file") from error
    except IrregularFile as error:
        raise RecipeError(f"{error}{by}") from error
    except UnicodeDecodeError as error:
        found = "in UTF-16" if b"\0" in error.object else "not in UTF-8"
        raise RecipeError(f"{_shown(file)}: the recipe is {found}{by}; save it as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{_shown(file)}: the recipe cannot be read{by}: {error}") from error


def _layers(file: Path, text: str) -> list[tuple[Path, dict[str, Any]]]:
    """The files along ``extends``, the oldest ancestor first; ``text`` is that of the first."""
    layers: list[tuple[Path, dict[str, Any]]] = []
    seen: set[Path] = set()
    child: Path | None = None
    current: Path | None = file
    total = 0
    while current is not None:
        current_text = _read_text(current, child) if child else text
        if current.resolve() in seen:
            circle = " -> ".join(_shown(layer) for layer, _ in layers)
            raise RecipeError(f"extends goes in a circle: {circle} -> {_shown(current)}; take it out of one of them")
        seen.add(current.resolve())
        total += len(current_text)
        if len(layers) == MOST_LAYERS:
            raise RecipeError(f"{_shown(file)}: it builds on more than {MOST_LAYERS} files by {EXTENDS}; join some")
        if total > limits().recipe_bytes:
            raise RecipeError(f"{_shown(file)}: with those that it builds on it is too large; {over(_SIZE, total)}")
        try:
            tables = parsed_toml(current_text)
        except P2PKitError as error:
            raise error if isinstance(error, RecipeError) else RecipeError(f"{_shown(current)}: {error}") from error
        except ValueError as error:
            remedy = _remedy(str(error)) or _remedy_of_line(str(error), current_text)
            raise RecipeError(f"{_shown(current)}: this is not valid TOML: {error}{remedy}") from error
        parent = tables.pop(EXTENDS, None)
        if parent is not None and not isinstance(parent, str):
            raise RecipeError(f"{_shown(current)}: {EXTENDS}: found {parent!r}, expected the path of one recipe file")
        layers.append((current, tables))
        child, current = current, (recipe_file(parent, current.parent) if parent is not None else None)
    return layers[::-1]


def _remedy(error: str) -> str:
    """What to do where a path of Windows stands in double quotes, in which a backslash begins an escape."""
    escape = "'\\'" in error or "hex value" in error
    remedy = "a backslash in double quotes begins an escape: write a path in single quotes ('C:\\data'), or with /"
    return f"; {remedy}" if escape else ""


def _remedy_of_line(error: str, text: str) -> str:
    """What to write on the line that an error names: a text in quotes, true for True; "" where that is not known."""
    for found, remedy in _COMMON_MISTAKES.items():
        if found in error:
            return f"; {remedy}"
    place = re.search(r"^(?:Invalid value|Expected newline).*at line (\d+)", error)
    key, _, value = (text.splitlines()[int(place[1]) - 1] if place else "").partition("=")
    bare = value.partition("#")[0].strip(" \t'\"“”‘’")
    if bare.lower() in ("none", "null"):
        return f"; TOML has no such value, so leave {key.strip()} out"
    for candidate in (bare.lower(), f"0{bare}", f"{bare}0", written(bare)) if re.fullmatch(r"[\w./:~-]+", bare) else ():
        with suppress(ValueError):
            parsed_toml(f"value = {candidate}")
            return f"; write {key.strip()} = {candidate}"
    return ""


def _merge(document: Document, path: KeyPath, base: dict[str, Any], layer: Mapping[str, Any], origin: str) -> None:
    """Merge ``layer`` into ``base``: tables merge, all else replaces, and a new ``name`` drops its old siblings."""
    if "name" in layer and "name" in base and layer["name"] != base["name"] and path != ("run",):
        _forget(document, path, base)
        base.clear()
    for key, value in layer.items():
        here = (*path, key)
        if isinstance(value, dict):
            if not isinstance(base.get(key), dict):
                _forget(document, here, base.get(key))
                base[key] = {}
            _merge(document, here, base[key], value, origin)
            continue
        _forget(document, here, base.get(key))
        base[key] = value
        document.origins[here] = origin
        for index, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, dict):  # its keys have an origin each, although it is not merged with another
                _merge(document, (*here, str(index)), {}, item, origin)


def _forget(document: Document, path: KeyPath, value: Any) -> None:
    """Forget where a value comes from that is replaced, and all that is in it."""
    document.origins.pop(path, None)
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inside:
        _forget(document, (*path, str(key)), below)


def parsed(override: str) -> tuple[KeyPath, Any]:
    """Key and value of ``a.b=VALUE``, as the command line gives it.

    Raises:
        RecipeError: it has another form.
    """
    key, equals, text = override.partition("=")
    path = tuple(map(str.strip, key.split(".")))
    if not override.isprintable() and set(override) & NOT_UTF_8:
        raise RecipeError(f"{COMMAND_LINE} {key}: found {text!r}, expected a text in UTF-8, as recipes hold no other")
    if not equals or not all(path):
        raise RecipeError(f"{COMMAND_LINE} {override}: expected KEY=VALUE, as in {COMMAND_LINE} train.epochs=5")
    try:
        return path, parsed_toml(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text.strip()[:1] in ("'", '"') and (remedy := _remedy(str(error))):
            raise RecipeError(f"{COMMAND_LINE} {override}: this is not valid TOML: {error}{remedy}") from error
        # a bare word: shells make quotes inside quotes a nuisance, and the value is validated like any other
        return path, text.strip()
    except ValueError as error:
        raise RecipeError(f"{COMMAND_LINE} {key}: {error}") from error


def _apply(document: Document, path: KeyPath, value: Any, origin: str) -> None:
    holder: Any = document.tables
    if len(path) > DEEPEST:
        raise RecipeError(f"{origin[:80]}...: this key has more than {DEEPEST} parts; no recipe has such a one")
    for position, part in enumerate(path):
        if isinstance(holder, list):
            _set_in_list(document, holder, path[:position], path[position:], value, origin)
            return
        if not isinstance(holder, dict):
            parent = ".".join(path[:position])
            raise RecipeError(f"{origin}: {parent} is a value, so it has no key {part!r}; set {parent} itself")
        if part not in holder:
            break
        holder = holder[part]
    for part in reversed(path):
        value = {part: value}
    _merge(document, (), document.tables, value, origin)


def _set_in_list(document: Document, items: list[Any], path: KeyPath, rest: KeyPath, value: Any, origin: str) -> None:
    """Place a value below ``losses.0.weight`` and the like."""
    index = int(rest[0]) if rest[0].isdigit() else len(items)
    if index >= len(items):
        allowed = f"0 to {len(items) - 1}" if items else "none: the list is empty"
        where = f"{origin}: {'.'.join(path)}"
        raise RecipeError(f"{where} is a list; found {rest[0]!r}, allowed: {allowed}")
    place = (*path, str(index))
    if len(rest) == 1:
        _forget(document, place, items[index])
        items[index] = value
        if isinstance(value, dict):
            _merge(document, place, {}, value, origin)
    elif isinstance(items[index], dict) and len(rest) > 2:
        for part in reversed(rest[1:]):
            value = {part: value}
        _merge(document, place, items[index], value, origin)
    elif isinstance(items[index], dict):
        renamed = rest[1] == "name" and value != items[index].get("name")
        # a loss's weight is the recipe's, not the component's
        kept = {key: items[index][key] for key in items[index] if key == "weight" or not renamed}
        for dropped in items[index].keys() - kept.keys():
            _forget(document, (*place, dropped), items[index][dropped])
        items[index] = {**kept, rest[1]: value}
    else:
        raise RecipeError(f"{origin}: there is nothing to set at {'.'.join((*path, *rest))}")
    document.origins[(*path, *rest)] = origin


def flattened(tables: Any, key: str = "") -> dict[str, Any]:
    """The values of nested tables and of lists of tables, by dotted key."""
    if isinstance(tables, list) and tables and all(isinstance(item, dict) for item in tables):
        tables = {str(index): item for index, item in enumerate(tables)}
    if not isinstance(tables, dict):
        return {key: tables}
    found = (flattened(value, f"{key}.{name}" if key else str(name)) for name, value in tables.items())
    return {path: value for values in found for path, value in values.items()}


def _shown(file: Path) -> str:
    try:
        return str(file.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(file)
