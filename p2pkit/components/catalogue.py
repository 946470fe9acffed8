"""Components by kind and name: made, listed and described."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from p2pkit.components.host import manager
from p2pkit.components.issues import issues_in, report
from p2pkit.components.kinds import KINDS, SUPPLIED
from p2pkit.components.registry import Registered
from p2pkit.components.signature import (
    build_component,
    defined,
    fixed,
    is_plain,
    parameters_model,
    plain,
    splits_of,
    table_model,
    validate,
)
from p2pkit.components.type_words import type_text
from p2pkit.contracts import Component, Split
from p2pkit.errors import P2PKitError, RecipeError, UnknownComponent

ARGS = re.compile(r"^(?:Args|Arguments):\n(?P<entries>(?:[ \t]+.*(?:\n|$)|[ \t]*\n)*)", re.MULTILINE)
"""The part of a docstring that is about parameters, in Google's style."""
NUMPY = re.compile(r"^Parameters\n-{3,}\n(?P<entries>(?:(?!.+\n-{3,}$).*\n)*(?!.+\n-{3,}$).*)", re.MULTILINE)
"""The same in NumPy's style: it goes on to the next heading."""
# an abbreviation's stop ends no sentence
SENTENCE = re.compile(r".+?(?<!\bal)(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)[.!?](?=\s+[^\s\d]|\s*$)", re.DOTALL)


def create(kind: str, name: str, /, **parameters: Any) -> Component:
    """Build the component of ``kind`` (``"generators"``, or ``"generator"``) called ``name``.

    ``parameters`` are its own and those that the assembly supplies (``source_channels``, ``split`` ...), the latter
    ignored by a component that does not ask for them. Of a data set without the ``split`` that is asked for, it is ().

    Raises:
        UnknownComponent: nothing has that name.
        RecipeError: a parameter is unknown, missing, of a wrong type or out of bounds.
    """
    registry = manager().registry(kind)
    return create_registered(registry.get(name), registry.kind, parameters)


def create_registered(registered: Registered, kind: str, parameters: Mapping[str, Any]) -> Component:
    """What :func:`create` does, for a component that need not be in a registry."""
    if kind == "datasets" and parameters.get("split") in frozenset(get_args(Split)) - splits_of(registered):
        return ()
    own = {key: value for key, value in parameters.items() if key not in SUPPLIED[kind]}
    model = parameters_model(registered, kind)
    try:
        arguments = dict(validate(model, own))
    except ValidationError as error:
        raise RecipeError(report(issues_in(error, model, own, registered.name))) from error
    return build_component(
        registered, kind, arguments, {key: parameters[key] for key in parameters.keys() - own.keys()}
    )


@dataclass(frozen=True)
class ParameterDescription:
    """One parameter of a component, as documentation shows it."""

    name: str
    type: str
    default: Any
    required: bool
    help: str = ""
    """What the component's docstring says of it, or its own description."""


@dataclass(frozen=True)
class ComponentDescription:
    """What ``p2pkit components`` shows of one component."""

    kind: str
    name: str
    distribution: str
    version: str
    file: str
    line: int
    documentation: str
    fixed: dict[str, Any]
    """Parameters in the documentation that this component has set for good."""
    parameters: list[ParameterDescription]
    problem: str | None = None
    base: str | None = None
    """The component of the same kind that this one is, with what is in ``fixed`` set."""

    @property
    def prose(self) -> str:
        """The documentation without what it says of the parameters."""
        return NUMPY.sub("", ARGS.sub("", self.documentation)).strip()

    @property
    def summary(self) -> str:
        """The first sentence of the documentation; of a variant of another component, what it has set for good."""
        if self.base:
            return self.variant
        first = " ".join(self.documentation.partition("\n\n")[0].split())
        sentence = SENTENCE.match(first)
        text = as_text(sentence[0] if sentence else first)
        return f"{text} ({self._set_for_good})".strip() if self.fixed else text

    @property
    def variant(self) -> str:
        """What the component is a variant of, and what it has set for good; empty for one that is neither."""
        if not self.fixed:
            return f"the same as {self.base}" if self.base else ""
        return f"{self.base or ''} with {self._set_for_good}".strip()

    @property
    def _set_for_good(self) -> str:
        return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in self.fixed.items())

    def as_json(self) -> dict[str, Any]:
        """The description in types that JSON knows."""
        return asdict(self)


def describe(kind: str) -> list[ComponentDescription]:
    """Every component of ``kind``, with its parameters and the place that defines it."""
    return [_describe(kind, registered) for registered in manager().registry(kind)]


def describe_named(name: str) -> list[ComponentDescription]:
    """The components called ``name``, of whatever kinds they are; none if nothing is called so.

    Raises:
        PluginError: two plugins offer the name.
    """
    found = []
    for kind in KINDS:
        try:
            found.append(_describe(kind, manager().registry(kind).get(name)))
        except UnknownComponent:
            continue
    return found


def _describe(kind: str, registered: Registered) -> ComponentDescription:
    documentation = inspect.getdoc(defined(registered.factory)) or ""
    helps = _helps(documentation)
    problem, parameters = None, []
    try:
        for name, field in table_model(registered, kind).model_fields.items():
            default = None if field.is_required() else field.default
            # a path as it is written: made absolute, it would be documented differently in each folder
            shown = str(default) if isinstance(default, Path) else plain(default)
            help_text = as_text(field.description or helps.get(name, ""))
            parameters.append(ParameterDescription(name, type_text(field), shown, field.is_required(), help_text))
    except P2PKitError as error:
        problem = str(error)
    file, line = place(registered)
    return ComponentDescription(
        kind, registered.name, registered.distribution, registered.version, file, line, documentation,
        _always(registered), parameters, problem, _base(kind, registered),
    )  # fmt: skip


def _always(registered: Registered) -> dict[str, Any]:
    values = fixed(registered.factory).items()
    return {name: plain(value) if is_plain(value) else repr(value) for name, value in values}


def _base(kind: str, registered: Registered) -> str | None:
    own = fixed(registered.factory).keys()
    alike = [
        each
        for each in manager().registry(kind)
        if defined(each.factory) is defined(registered.factory) and fixed(each.factory).keys() <= own
    ]
    first = min(alike, key=lambda each: (len(fixed(each.factory)), each.name), default=registered)
    return None if first.name == registered.name else first.name


def _helps(documentation: str) -> dict[str, str]:
    """What the section on parameters of a docstring says of each."""
    google, numpy = ARGS.search(documentation), NUMPY.search(documentation)
    entry = r"^(\w+)(?: \(.*?\))?:(.*(?:\n(?:[ \t]+.*|$))*)" if google else r"^(\w+)(?: *:.*)?$((?:\n(?:[ \t]+.*|$))*)"
    section = google or numpy
    entries = inspect.cleandoc("\n" + section["entries"]) if section else ""
    return {found[1]: " ".join(found[2].split()) for found in re.finditer(entry, entries, re.MULTILINE)}


def as_text(documentation: str) -> str:
    """What is said in a docstring, for those who read no reStructuredText."""
    return " ".join(documentation.replace("``", "`").split())


def place(registered: Registered) -> tuple[str, int]:
    """The file and line that define a component; ("", 0) where that cannot be found."""
    factory = defined(registered.factory)
    try:
        return inspect.getsourcefile(factory) or "", inspect.getsourcelines(factory)[1]
    except (OSError, TypeError):
        return "", 0
