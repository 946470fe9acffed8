"""Components by kind and name: made, listed and described."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from p2pkit.contracts import SUPPLIED, Component
from p2pkit.errors import P2PKitError, RecipeError
from p2pkit.parameters import (
    coerced,
    defined,
    fixed,
    is_plain,
    parameters_model,
    plain_value,
    supplied_names,
    type_text,
    validate,
)
from p2pkit.plugins import manager
from p2pkit.problems import problems_in, report
from p2pkit.registry import Registered


def components(kind: str) -> list[str]:
    """The names of all components of ``kind`` (``"generators"``, ``"losses"`` ...), sorted."""
    return manager().registry(kind).names()


def create(kind: str, name: str, /, **parameters: Any) -> Component:
    """Build the component of ``kind`` called ``name``.

    ``parameters`` are its own and those that the assembly supplies (``source_channels``, ``split`` ...), the latter
    ignored by a component that does not ask for them.

    Raises:
        UnknownComponent: nothing has that name.
        RecipeError: a parameter is unknown, missing, of a wrong type or out of bounds.
    """
    return create_registered(manager().registry(kind).get(name), kind, parameters)


def create_registered(registered: Registered, kind: str, parameters: Mapping[str, Any]) -> Component:
    """What :func:`create` does, for a component that need not be in a registry."""
    own = {key: value for key, value in parameters.items() if key not in SUPPLIED[kind]}
    model = parameters_model(registered, kind)
    try:
        arguments = coerced(validate(model, own))
    except ValidationError as error:
        raise RecipeError(report(problems_in(error, model, own, registered.name))) from error
    return build(registered, kind, arguments, {key: parameters[key] for key in parameters.keys() - own.keys()})


def build(registered: Registered, kind: str, arguments: dict[str, Any], supplied: dict[str, Any]) -> Component:
    """Call a factory with its validated ``arguments`` and with what it asks for of that which is ``supplied``.

    Raises:
        RecipeError: it cannot be made with these.
    """
    wanted = supplied_names(registered.factory, kind) & supplied.keys()
    try:
        return registered.factory(**arguments, **{name: supplied[name] for name in wanted})
    except P2PKitError:
        raise
    except (ValueError, RuntimeError, ArithmeticError, MemoryError, TypeError) as error:
        given = ", ".join(f"{name} = {value!r}" for name, value in arguments.items())
        raise RecipeError(
            f"{kind}: {registered.name!r} of {registered.origin} cannot be made with {given or 'no parameters'}: "
            f"{type(error).__name__}: {error}"
        ) from error


@dataclass(frozen=True)
class ParameterDescription:
    """One parameter of a component, as documentation shows it."""

    name: str
    type: str
    default: Any
    required: bool


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

    def as_json(self) -> dict[str, Any]:
        """The description in types that JSON knows."""
        return asdict(self)


def describe(kind: str) -> list[ComponentDescription]:
    """Every component of ``kind``, with its parameters and the place that defines it."""
    return [_describe(kind, registered) for registered in manager().registry(kind)]


def _describe(kind: str, registered: Registered) -> ComponentDescription:
    problem, parameters = None, []
    try:
        for name, field in parameters_model(registered, kind).model_fields.items():
            default = None if field.is_required() else field.default
            parameters.append(ParameterDescription(name, type_text(field), plain_value(default), field.is_required()))
    except P2PKitError as error:
        problem = str(error)
    file, line = place(registered)
    always = {name: value if is_plain(value) else repr(value) for name, value in fixed(registered.factory).items()}
    return ComponentDescription(
        kind, registered.name, registered.distribution, registered.version, file, line,
        inspect.getdoc(defined(registered.factory)) or "", always, parameters, problem,
    )  # fmt: skip


def place(registered: Registered) -> tuple[str, int]:
    """The file and line that define a component; ("", 0) where that cannot be told."""
    factory = defined(registered.factory)
    try:
        return inspect.getsourcefile(factory) or "", inspect.getsourcelines(factory)[1]
    except (OSError, TypeError):
        return "", 0
