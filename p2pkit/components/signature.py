"""A factory's signature as a configuration schema: names, types, defaults and bounds, checked and documented."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cache, partial, reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tomlkit
from pydantic import AfterValidator, BaseModel, ConfigDict, create_model
from pydantic.errors import PydanticInvalidForJsonSchema

from p2pkit.components.kinds import SINGULAR, SUPPLIED
from p2pkit.components.registry import Factory, Registered
from p2pkit.components.type_words import NOUNS, in_words
from p2pkit.contracts import Component
from p2pkit.errors import P2PKitError, PluginError, RecipeError
from p2pkit.settings import FIXED_KEYS, Section
from p2pkit.utils.paths import usable_path

_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False)


@cache
def parameters_model(registered: Registered, kind: str) -> type[BaseModel]:
    """The pydantic model of what a recipe may set for a component: its signature without what the assembly supplies.

    Raises:
        PluginError: the factory cannot be called, or it cannot do without what no recipe could set.
    """
    try:
        model: type[BaseModel] = create_model(registered.name, __config__=_CONFIG, **_fields(registered, kind))
        model.model_json_schema()
    except PluginError:
        raise
    except Exception as error:  # whatever a stranger's annotations may raise
        called = _called(registered)
        raise PluginError(f"{called}: its signature is not a schema: {type(error).__name__}: {error}") from error
    return model


@cache
def table_model(registered: Registered, kind: str) -> type[BaseModel]:
    """The pydantic model of a component's table in a recipe: its parameters, and what every one of its kind has."""
    parameters = parameters_model(registered, kind)
    fixed = FIXED_KEYS.get(kind)
    return create_model(registered.name, __base__=(parameters, fixed)) if fixed else parameters


def _fields(registered: Registered, kind: str) -> dict[str, Any]:
    """Type and default of each parameter that a recipe may set; optional ones that TOML cannot express are left out."""
    if kind == "schedules" and "optimizer" in _signature(registered.factory):
        raise PluginError(
            f"{_called(registered)} takes an optimizer, as PyTorch's schedulers do; a schedule here is a function of "
            f'the position in a run: register("{registered.name}", lambda: lambda position: 1 - position.progress)'
        )
    hints, fields = _type_hints(registered), dict[str, Any]()
    for name, parameter in _signature(registered.factory).items():
        by_name = parameter.kind is not parameter.POSITIONAL_ONLY
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or (name in SUPPLIED[kind] and by_name):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        hint = hints.get(name, None if default in (..., None) else type(default))
        settable = None if hint is None or not by_name else _expressible(hint)
        if settable is None or (default is not ... and not is_plain(default)):
            if default is ...:
                raise PluginError(_why_not(registered, kind, parameter, hint))
            continue
        if name == "name" or name in FIXED_KEYS.get(kind, Section).model_fields:
            raise PluginError(f"{_called(registered)}: in recipes {name!r} is not a parameter; rename it")
        fields[name] = (settable, default)
    return fields


def _expressible(hint: Any) -> Any:
    """A type without the members of unions that TOML cannot express; None where nothing is left of it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kept = list(filter(None, map(_expressible, arguments)))
        return reduce(or_, kept) if set(kept) - {type(None)} else None
    if origin is Annotated:
        bare = _expressible(arguments[0])
        return None if bare is None else Annotated[(bare, *arguments[1:])]
    if hint is Path:
        return Annotated[Path, AfterValidator(usable_path)]
    if origin in (list, tuple, dict) and Path in arguments:
        return origin[tuple(map(_expressible, arguments))]
    if origin is not Literal and hint not in (*NOUNS, bool, type(None)):
        try:
            create_model("One", __config__=_CONFIG, value=(hint, ...)).model_json_schema()
        except PydanticInvalidForJsonSchema:
            return None
    return hint


def _why_not(registered: Registered, kind: str, parameter: inspect.Parameter, hint: Any) -> str:
    """Why a parameter without a default cannot be one of a recipe, and what to do."""
    called, name, factory = _called(registered), parameter.name, defined(registered.factory)
    required = [each.name for each in _signature(registered.factory).values() if each.default is each.empty]
    if kind in ("losses", "metrics") and not inspect.isclass(factory) and len(required) > 1:
        function = getattr(factory, "__name__", "function")
        return (
            f"{called} is a function of ({', '.join(required[:2])}) where what makes the {SINGULAR[kind]} is expected; "
            f'write register("{registered.name}", lambda: {function})'
        )
    if kind == "schedules" and (name == "position" or getattr(hint, "__name__", "") == "Position"):
        function = getattr(factory, "__name__", "function")
        return (
            f"{called} is a function of the position where what makes the schedule is expected; write "
            f'register("{registered.name}", lambda: {function})'
        )
    if kind == "callbacks" and hint is None and inspect.isroutine(factory):
        return (
            f"{called} is a function; register a class with methods such as on_step_end, or what makes such an object"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return f"{called}: parameter {name!r} has no name that a recipe could set; take the / out of its signature"
    if hint is None:
        return f"{called}: parameter {name!r} has no type annotation; add one, or give it a default"
    return f"{called}: parameter {name!r} is a {in_words(hint)}, which TOML cannot express; give it a default"


def supplied_names(factory: Factory, kind: str) -> frozenset[str]:
    """The reserved parameters that ``factory`` asks the assembly for."""
    return frozenset(_signature(factory)) & SUPPLIED[kind]


def splits_of(registered: Registered) -> frozenset[str]:
    """The sets that the factory of a data set can make, as the annotation of its ``split`` lists them in a Literal.

    Annotated otherwise, it makes a train and a test set; without ``split``, a train set alone.
    """
    if "split" not in supplied_names(registered.factory, "datasets"):
        return frozenset({"train"})
    annotation = _type_hints(registered).get("split")
    return frozenset(get_args(annotation) if get_origin(annotation) is Literal else ("train", "test"))


def build_component(
    registered: Registered, kind: str, arguments: dict[str, Any], supplied: dict[str, Any]
) -> Component:
    """Call a factory with its validated ``arguments`` and with what it asks for of that which is ``supplied``.

    Raises:
        RecipeError: it cannot be made with these.
    """
    wanted = dict(arguments)
    for name in supplied_names(registered.factory, kind) & supplied.keys():
        wanted[name] = supplied[name]
    try:
        return registered.factory(**wanted)
    except P2PKitError:
        raise
    except Exception as error:  # whatever a stranger's factory may raise
        given = ", ".join(f"{name} = {value!r}" for name, value in arguments.items())
        raise RecipeError(
            f"{SINGULAR[kind]} {registered.name!r} of {registered.origin} cannot be made with "
            f"{given or 'no parameters'}: {type(error).__name__}: {error}"
        ) from error


def validate(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """``values`` coerced by ``model``; raises pydantic's ValidationError, or PluginError for a bound that fits no type.

    TOML and JSON know the same types, and pydantic's strict JSON mode takes them at their word: a string is not a
    number, but it may be a path, and a list may be a tuple.
    """
    text = json.dumps(values, default=str)
    try:
        return model.model_validate_json(text, strict=True)
    except TypeError as error:
        raise PluginError(f"{model.__name__!r}: one of its bounds does not go with its type: {error}") from error


def plain(value: Any) -> Any:
    """A value as TOML has it, where it has one; a model as a table. Paths become absolute, to hold from any folder."""
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, list | tuple):
        return list(map(plain, value))
    if not isinstance(value, dict | BaseModel):
        return value
    table = {}
    for name, item in dict(value).items():
        if item is not None:
            table[name] = plain(item)
    return table


def is_plain(value: Any) -> bool:
    """Whether a value is, or can be written as, something that TOML and JSON know."""
    try:
        json.dumps(plain(value))
        if value is not None:  # which is a key that is left out, but nothing within a list
            tomlkit.item(plain(value))
    except (TypeError, ValueError):
        return False
    return True


def fixed(factory: Factory) -> dict[str, Any]:
    """The parameters that a functools.partial has set for good; a recipe cannot set them."""
    return dict(factory.keywords) if isinstance(factory, partial) else {}


def defined(factory: Factory) -> Any:
    """The class or function behind a factory, where its documentation and its source are."""
    return factory.func if isinstance(factory, partial) else factory


def _signature(factory: Factory) -> Mapping[str, inspect.Parameter]:
    parameters = dict(inspect.signature(factory).parameters)
    for name in factory.keywords if isinstance(factory, partial) else ():
        parameters.pop(name, None)
    return parameters


def _type_hints(registered: Registered) -> dict[str, Any]:
    factory = defined(registered.factory)
    if not inspect.isclass(factory) and hasattr(factory, "forward"):
        raise PluginError(
            f"{_called(registered)} is a {type(factory).__name__} where what makes one is expected; write "
            f'register("{registered.name}", lambda: {type(factory).__name__}(...))'
        )
    function = factory.__init__ if inspect.isclass(factory) else factory
    if not inspect.isroutine(function):
        function = type(factory).__call__  # an object that can be called
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise PluginError(
            f"{_called(registered)}: an annotation cannot be resolved ({error}); import its name at run time, "
            "not under TYPE_CHECKING"
        ) from error


def _called(registered: Registered) -> str:
    return f"{registered.name!r} of {registered.origin}"
