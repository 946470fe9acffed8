"""Issues of a configuration, pydantic's complaints in our words: where, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from p2pkit.errors import did_you_mean


@dataclass(frozen=True)
class Issue:
    """One mistake: the dotted key, what is wrong with it, and the file that it came from (filled in by the recipe)."""

    key: str
    message: str
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return f"{where}{self.key}: {self.message}"


def report(issues: Sequence[Issue]) -> str:
    """All issues as one message, a line each."""
    return "\n".join(str(issue) for issue in issues)


def issues_in(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], prefix: str) -> list[Issue]:
    """Pydantic's complaints about ``values`` in our words, with keys below ``prefix``."""
    found: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(values, detail["loc"])
        key = ".".join([*([prefix] if prefix else []), *map(str, path)])
        message = _message(detail, model)
        # a union complains once a member: keep them together, as alternatives for one key
        if message not in found.setdefault(key, []):
            found[key].append(message)
    return [Issue(key, "; or ".join(messages)) for key, messages in found.items()]


def _path_in(values: Any, location: tuple[int | str, ...]) -> list[int | str]:
    """The part of a pydantic location that names keys of ``values``: union members add words of their own."""
    path: list[int | str] = []
    for step in location:
        if isinstance(values, Mapping):
            path.append(step)
            values = values.get(step) if isinstance(step, str) else None
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            path.append(step)
            values = values[step]
    return path


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        names = _field_names(model, detail["loc"][:-1])
        allowed = ", ".join(sorted(names)) or "none"
        return f"unknown key{did_you_mean(str(detail['loc'][-1]), names)}; allowed: {allowed}"
    if detail["type"] == "missing":
        return "missing; it has no default, so it must be given"
    expected = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"found {detail['input']!r}, expected {expected}"


def _field_names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for step in location:
        field = model.model_fields.get(str(step))
        if field is None:
            break
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            model = nested
    return list(model.model_fields)
