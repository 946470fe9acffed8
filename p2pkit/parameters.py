"""A factory's signature as a configuration schema: names, types, defaults and bounds, checked and documented."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, create_model
from pydantic.fields import FieldInfo

from p2pkit.contracts import SUPPLIED
from p2pkit.errors import PluginError
from p2pkit.registry import Factory, Registered


@cache
def parameters_model(registered: Registered, kind: str) -> type[BaseModel]:
    """The pydantic model of what a recipe may set for a component: its signature without what the assembly supplies.

    Raises:
        PluginError: the factory cannot be called, lacks an annotation, or takes what no recipe could set.
    """
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False)
    try:
        model: type[BaseModel] = create_model(registered.name, __config__=config, **_fields(registered, kind))
        model.model_json_schema()
    except PluginError:
        raise
    except Exception as error:  # whatever a stranger's annotations may raise
        called = _called(registered)
        raise PluginError(f"{called}: its signature is no schema: {type(error).__name__}: {error}") from error
    return model


def _fields(registered: Registered, kind: str) -> dict[str, Any]:
    hints = _type_hints(registered)
    fields: dict[str, Any] = {}
    for name, parameter in _signature(registered.factory).items():
        if name in SUPPLIED[kind]:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise PluginError(f"{_called(registered)}: parameter {name!r} has no name that a recipe could set")
        if name == "name" or (name == "weight" and kind == "losses"):
            raise PluginError(f"{_called(registered)}: in recipes {name!r} is not a parameter; rename it")
        if name not in hints:
            raise PluginError(f"{_called(registered)}: parameter {name!r} has no type annotation; add one")
        default = ... if parameter.default is parameter.empty else parameter.default
        if default is not ... and not is_plain(default):
            raise PluginError(f"{_called(registered)}: the default of {name!r} is nothing that TOML knows: {default!r}")
        fields[name] = (hints[name], default)
    return fields


def supplied_names(factory: Factory, kind: str) -> frozenset[str]:
    """The reserved parameters that ``factory`` asks the assembly for."""
    return frozenset(_signature(factory)) & SUPPLIED[kind]


def validate(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """``values`` coerced by ``model``; raises pydantic's ValidationError, or PluginError for a bound that fits no type.

    TOML and JSON know the same types, and pydantic's strict JSON mode takes them at their word: a string is no number,
    but it may be a path, and a list may be a tuple.
    """
    text = json.dumps(values, default=str)
    try:
        return model.model_validate_json(text, strict=True)
    except TypeError as error:
        raise PluginError(f"{model.__name__!r}: one of its bounds does not go with its type: {error}") from error


def coerced(model: BaseModel) -> dict[str, Any]:
    """The validated values as Python objects, to call a factory with."""
    return {name: getattr(model, name) for name in type(model).model_fields}


def plain(model: BaseModel) -> dict[str, Any]:
    """The validated values as TOML has them. Paths become absolute, so that they hold from any working directory."""
    return {name: plain_value(value) for name, value in coerced(model).items() if value is not None}


def plain_value(value: Any) -> Any:
    """A value as TOML has it, where it has one. Paths become absolute, to hold from any working directory."""
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, BaseModel):
        return plain(value)
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    return value


def is_plain(value: Any) -> bool:
    """Whether a value is, or can be written as, something that TOML and JSON know."""
    try:
        json.dumps(plain_value(value))
    except TypeError:
        return False
    return True


def type_text(field: FieldInfo) -> str:
    """A parameter's type and bounds, as documentation shows them."""
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for prefix in ("typing.", "pathlib."):
        text = text.replace(prefix, "")
    bounds = [str(bound) for bound in field.metadata if not isinstance(bound, AfterValidator)]
    return f"{text} [{', '.join(bounds)}]" if bounds else text


def fixed(factory: Factory) -> dict[str, Any]:
    """The parameters that a functools.partial has set for good; a recipe cannot set them."""
    return dict(factory.keywords) if isinstance(factory, partial) else {}


def defined(factory: Factory) -> Any:
    """The class or function behind a factory, where its documentation and its source are."""
    return factory.func if isinstance(factory, partial) else factory


def _signature(factory: Factory) -> Mapping[str, inspect.Parameter]:
    bound = fixed(factory)
    return {name: value for name, value in inspect.signature(factory).parameters.items() if name not in bound}


def _type_hints(registered: Registered) -> dict[str, Any]:
    factory = defined(registered.factory)
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise PluginError(
            f"{_called(registered)}: an annotation cannot be resolved ({error}); import its name at run time, "
            "not under TYPE_CHECKING"
        ) from error


def _called(registered: Registered) -> str:
    return f"{registered.name!r} of {registered.origin}"
