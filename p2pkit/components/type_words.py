"""Types and their bounds as a person writes them: in what ``p2pkit components`` lists, and in messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomlkit
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def type_text(field: FieldInfo) -> str:
    """A parameter's type and bounds, as a person writes them: "whole number from 1 on", "one of: batch, none"."""
    return field.title or in_words(field.annotation, field.metadata)


def expected(kind: Any, metadata: Iterable[Any] = ()) -> str:
    """What may stand in a recipe for a type, as a message says it: "a whole number from 1 on, or [height, width]"."""
    words = []
    for each in alternatives(kind):
        own, of_own = bare(each, metadata)
        if get_origin(own) is Literal:
            choices = list(map(written, get_args(own)))
            words.append(f"one of: {', '.join(choices)}" if len(choices) > 1 else choices[0])
        else:
            words.append(_PLAIN_NOUN.sub("a ", in_words(own, of_own)))
    return ", or ".join(words)


def alternatives(kind: Any) -> list[Any]:
    """The members of a union, but for None, which no recipe can write; of another type that type alone."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [each for each in members if each is not type(None)]


def bare(kind: Any, metadata: Iterable[Any] = ()) -> tuple[Any, list[Any]]:
    """A type without what annotates it, nor the None that a recipe cannot write; and what annotates it."""
    found = list(metadata)
    while True:
        if get_origin(kind) is Annotated:
            kind, *own = get_args(kind)
            found = [*own, *found]
        elif (members := alternatives(kind)) != [kind] and len(members) == 1:
            kind = members[0]
        else:
            return kind, found


def written(value: Any) -> str:
    """A value as TOML writes it; what is too long to be shown whole, and takes tomlkit minutes, as Python does."""
    if isinstance(value, dict | list):
        return shown if len(shown := repr(value)) > 2000 else inline(value)
    try:
        return str(tomlkit.item(value).as_string())
    except (TypeError, ValueError):
        return repr(value)


def inline(value: Any) -> str:
    """A value as TOML writes it on one line, however long: what follows ``key =``, with tables in braces."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key)} = {inline(item)}' for key, item in value.items())}}}"
    return f"[{', '.join(map(inline, value))}]" if isinstance(value, list | tuple) else written(value)


NOUNS: Mapping[Any, tuple[str, str]] = {
    int: ("whole number", "whole numbers"),
    float: ("float", "floats"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
}
"""What one value of a type is called, and several."""
_PLAIN_NOUN = re.compile(r"^(?=(?:whole number|float|text|list|table)\b)")
_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


def in_words(kind: Any, metadata: Iterable[Any] = (), plural: bool = False) -> str:
    """A type and its bounds in words, of one value or of several."""
    metadata = list(metadata)
    origin, arguments = get_origin(kind), get_args(kind)
    if title := next((each.title for each in metadata if isinstance(each, FieldInfo) and each.title), None):
        return title
    if origin is Annotated:
        return in_words(arguments[0], [*arguments[1:], *metadata], plural)
    if origin in (Union, UnionType):
        return " or ".join(in_words(each, metadata) for each in alternatives(kind))
    bounds = _bounds(metadata)
    if isinstance(kind, type) and kind in NOUNS:
        return NOUNS[kind][plural] + _range(bounds, whole=kind is int) + _further(bounds)
    if origin is Literal:
        return f"one of: {', '.join(map(str, arguments))}"
    if origin in (list, tuple, set, frozenset, Sequence):
        return f"list{_of_items(arguments)}{_further(bounds)}"
    if origin is dict or (isinstance(kind, type) and issubclass(kind, dict | BaseModel)):
        values = arguments[1] if arguments else Any
        return "table" if values is Any else f"table of {in_words(values, plural=True)}"
    if kind in (bool, Any):
        return "true or false" if kind is bool else "anything"
    return getattr(kind, "__name__", str(kind)) + _further(bounds)


def _of_items(kinds: tuple[Any, ...]) -> str:
    several = [kind for kind in kinds if kind is not ...]
    if not several or several == [Any]:
        return ""
    count = f"{len(several)} " if len(kinds) > 1 and ... not in kinds else ""
    if any(kind != several[0] for kind in several):
        return f" of {count.strip()}: {', '.join(map(in_words, several))}"
    bare = get_args(several[0])[0] if get_origin(several[0]) is Annotated else several[0]
    if isinstance(bare, type) and bare in NOUNS:
        return f" of {count}{in_words(several[0], plural=True)}"
    return f" of {count.strip() or 'values'}, each {in_words(several[0])}"


def _bounds(metadata: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in metadata:
        if isinstance(each, FieldInfo):
            found |= _bounds(each.metadata)
        found |= {name: value for name in _BOUNDS if (value := getattr(each, name, None)) is not None}
    return found


def _range(bounds: Mapping[str, Any], whole: bool) -> str:
    low, high, above, below = (bounds.get(name) for name in ("ge", "le", "gt", "lt"))
    if whole and above is not None:
        low, above = floor(above) + 1, None
    if whole and below is not None:
        high, below = ceil(below) - 1, None
    start = f" from {low}" if low is not None else f" above {above}" if above is not None else ""
    if high is not None:
        return f"{start} to {high}" if start else f" up to {high}"
    if below is not None:
        return f"{start} to below {below}" if start else f" below {below}"
    return f"{start} on" if low is not None else start


def _further(bounds: Mapping[str, Any]) -> str:
    words = {
        "multiple_of": "a multiple of {}", "min_length": "at least {} long", "max_length": "at most {} long",
        "pattern": "matching {}",
    }  # fmt: skip
    return "".join(f", {words[name].format(value)}" for name, value in bounds.items() if name in words)
