"""Issues of a configuration, pydantic's complaints in our words: where, what was found, what is allowed, what to write.

What is expected is said from the types of the schema, never in pydantic's words; and where another form of what was
found is what the schema takes, as 64 is for "64", that is named as the change to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from p2pkit.components.signature import validate
from p2pkit.components.type_words import alternatives, bare, expected, written
from p2pkit.errors import did_you_mean
from p2pkit.utils.opening import parsed_toml
from p2pkit.utils.progress import shortened

SWITCHES = {"yes": True, "on": True, "no": False, "off": False}
"""What some write for true and false."""
MOST_SHOWN = 50
"""Of how many mistakes in one configuration a message tells, and so says what to do."""
LONGEST = 4000
"""How many characters are shown of what is said of one; a recipe may hold very long texts."""


@dataclass(frozen=True)
class Issue:
    """One mistake: the dotted key, what is wrong with it, and the file that it came from (filled in by the recipe)."""

    key: str
    message: str
    file: str = ""
    unknown: bool = False
    """No key is called so, in this table."""

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return f"{where}{self.key}: {self.message}"


def report(issues: Sequence[Issue]) -> str:
    """The issues as one message, a line each; of very many the first, and how many more."""
    more = [f"and {len(issues) - MOST_SHOWN} more"] if len(issues) > MOST_SHOWN else []
    return "\n".join([*(shortened(str(issue), LONGEST) for issue in issues[:MOST_SHOWN]), *more])


def issues_in(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], prefix: str) -> list[Issue]:
    """Pydantic's complaints about ``values`` in our words, with keys below ``prefix``."""
    found: dict[tuple[int | str, ...], tuple[_Place, list[ErrorDetails]]] = {}
    for detail in error.errors(include_url=False):
        place = _place(model, values, detail["loc"])
        # a union complains once a member, of one key
        found.setdefault(place.path, (place, []))[1].append(detail)
    issues = list[Issue]()
    for place, details in found.values():
        key = ".".join([*([prefix] if prefix else []), *map(str, place.path)])
        unknown = details[0]["type"] == "extra_forbidden"
        message = _message(place, details, model, values) if len(issues) < MOST_SHOWN else ""
        issues.append(Issue(key, message, unknown=unknown))
    return issues


class _Place(NamedTuple):
    """A key in a configuration, or an item of a list in it: where it is, and what the schema wants there."""

    path: tuple[int | str, ...]
    kind: Any
    """The type; of an unknown key the model that has no such field."""
    metadata: list[Any]


def _place(model: type[BaseModel], values: Any, location: tuple[int | str, ...]) -> _Place:
    """The innermost place on the way to ``location`` that lies in no union: which member was meant, nobody knows."""
    kind: Any = model
    metadata, value, path = list[Any](), values, list[int | str]()
    for step in location:
        kind, metadata = bare(kind, metadata)
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, Mapping):
            field = kind.model_fields.get(str(step))
            path.append(step)
            if field is None:
                break
            kind, metadata, value = field.annotation, field.metadata, value.get(step)
        elif origin in (list, tuple, Sequence) and isinstance(value, list) and step in range(len(value)):
            assert isinstance(step, int)
            kind = arguments[step] if origin is tuple and ... not in arguments else arguments[0]
            metadata, value = [], value[step]
            path.append(step)
        elif origin is dict and isinstance(value, Mapping) and step in value:
            kind, metadata, value = arguments[1], [], value[step]
            path.append(step)
        else:
            break
    return _Place(tuple(path), *bare(kind, metadata))


def _message(place: _Place, details: Sequence[ErrorDetails], model: type[BaseModel], values: Mapping[str, Any]) -> str:
    name, kinds = str(place.path[-1]) if place.path else "", {detail["type"] for detail in details}
    if "extra_forbidden" in kinds:
        names = list(place.kind.model_fields)
        return f"unknown key{did_you_mean(name, names)}; allowed: {', '.join(sorted(names)) or 'none'}"
    wanted = expected(place.kind, place.metadata)
    if any(detail["type"] == "missing" and detail["loc"][-1:] == place.path[-1:] for detail in details):
        return f"missing; it has no default, so add {name}, {wanted}"
    own = [
        detail["msg"].partition(", ")[2] for detail in details if detail["type"] in ("value_error", "assertion_error")
    ]
    wanted = "; or ".join(dict.fromkeys(own)) or wanted
    if not place.path:  # of keys that do not go together
        return f"expected {wanted}"
    finite = ", which is finite" if "finite_number" in kinds else ""
    found = _at(values, place.path)
    shown = written(found) if isinstance(found, bool) else repr(found)
    return f"found {shown}, expected {wanted}{finite}{_remedy(place, found, model, values)}"


def _remedy(place: _Place, found: Any, model: type[BaseModel], values: Mapping[str, Any]) -> str:
    """What to write: another form of what was found that the schema takes, or the nearest of the values that it has."""
    length = next(length for length in range(len(place.path), 0, -1) if isinstance(place.path[length - 1], str))
    key = place.path[:length]
    before = _at(values, key)
    is_long = isinstance(before, list) and len(before) > MOST_SHOWN  # to try one costs as much as all of it
    for candidate in () if is_long else _other_forms(before):
        if _is_taken(candidate, key, model, values):
            unquoted = isinstance(before, str) and not isinstance(candidate, str | list)
            return f"; write {key[-1]} = {written(candidate)}{' without quotes' if unquoted else ''}"
    choices = [
        choice
        for each in alternatives(place.kind)
        for choice in get_args(bare(each)[0])
        if get_origin(bare(each)[0]) is Literal and isinstance(choice, str)
    ]
    return did_you_mean(found, choices) if isinstance(found, str) else ""


def _is_taken(value: Any, key: tuple[int | str, ...], model: type[BaseModel], values: Mapping[str, Any]) -> bool:
    """Whether the schema has nothing against ``value`` at ``key``."""
    changed = deepcopy(dict(values))
    holder: Any = _at(changed, key[:-1])
    holder[key[-1]] = value
    try:
        validate(model, changed)
    except ValidationError as error:
        return all(_place(model, changed, one["loc"]).path[: len(key)] != key for one in error.errors())
    return True


def _other_forms(value: Any) -> Iterator[Any]:
    """What a person may have meant who wrote ``value``: without quotes, with them, as a list, in another case."""
    if isinstance(value, str):
        unquoted = _unquoted(value)
        if unquoted is not value:
            yield unquoted
        yield from {value.strip(), value.strip().lower()} - {value}
    elif isinstance(value, list):
        yield [_unquoted(each) for each in value]
        yield from value if len(value) == 1 else ()
        return
    elif isinstance(value, float) and value.is_integer():
        yield int(value)
    if value in (0, 1) and not isinstance(value, bool):
        yield bool(value)
    if isinstance(value, int | float):
        yield written(value)
    yield [value]


def _unquoted(value: Any) -> Any:
    """What a text says, read as a value of TOML; a float as the whole number that it is; all else as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    try:
        return SWITCHES[text] if text in SWITCHES else parsed_toml(f"value = {text}")["value"]
    except (ValueError, KeyError):
        return value


def _at(values: Any, path: Sequence[int | str]) -> Any:
    for step in path:
        values = values[step]
    return values
