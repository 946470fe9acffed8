"""From a recipe as written to a validated one. Every mistake is collected; one error tells them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from p2pkit.errors import P2PKitError, PluginError, RecipeError, did_you_mean
from p2pkit.parameters import defined, parameters_model, validate
from p2pkit.plugins import manager
from p2pkit.problems import Problem, problems_in, report
from p2pkit.recipe.document import Document, read_document
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.settings import (
    EvaluationSettings,
    LoaderSettings,
    OptimizerSettings,
    RunSettings,
    ScheduleSettings,
    Section,
    SideSettings,
    TrainSettings,
    TransformSettings,
)

DEFAULT_EPOCHS = 200
SETTINGS: dict[str, type[Section]] = {
    "run": RunSettings,
    "source": SideSettings,
    "target": SideSettings,
    "loader": LoaderSettings,
    "transform": TransformSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "train": TrainSettings,
    "evaluation": EvaluationSettings,
}
COMPONENTS = {
    "data": "datasets",
    "generator": "generators",
    "discriminator": "discriminators",
    "method": "methods",
}
OPTIONAL_COMPONENTS = {"encoding": "encodings"}
COMPONENT_LISTS = {"losses": "losses", "metrics": "metrics"}
SECTIONS = (*SETTINGS, *COMPONENTS, *OPTIONAL_COMPONENTS, *COMPONENT_LISTS)

SectionT = TypeVar("SectionT", bound=Section)


def read_recipe(file: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in ``file``, validated and with all defaults filled in.

    Raises:
        RecipeError: with every mistake in it: file, key, what was found, what is allowed, the nearest name.
    """
    return resolve(read_document(file, overrides))


def resolve(document: Document) -> Recipe:
    """Validate a document against the sections and against the signatures of the components that it names."""
    return _Resolver(document).recipe()


class _Resolver:
    """Validates section by section and collects the problems."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.tables = document.tables
        self.problems: list[Problem] = []

    def recipe(self) -> Recipe:
        for name in self.tables:
            if name not in SECTIONS:
                self._problem(name, f"unknown section{did_you_mean(name, SECTIONS)}; allowed: {', '.join(SECTIONS)}")
        run_defaults = {"name": self.document.file.stem, **self._table("run")}
        sections: dict[str, Any] = {"run": self._settings("run", RunSettings, run_defaults)}
        for name in ("source", "target", "loader", "transform", "schedule", "evaluation"):
            sections[name] = self._settings(name, SETTINGS[name], self._table(name))
        sections["train"] = self._train()
        sections |= {name: self._component(name, kind, self.tables.get(name)) for name, kind in COMPONENTS.items()}
        for name, kind in OPTIONAL_COMPONENTS.items():
            sections[name] = self._component(name, kind, self.tables[name]) if name in self.tables else None
        for name, kind in COMPONENT_LISTS.items():
            sections[name] = self._components(name, kind)
        sections["optimizer"], sections["optimizers"] = self._optimizers(sections["method"])
        if self.problems:
            raise RecipeError(report(self.problems))
        return Recipe(self.document, **sections)

    def _problem(self, key: str, message: str) -> None:
        self._add([Problem(key, message)])

    def _add(self, problems: Sequence[Problem]) -> None:
        default = str(self.document.file)
        self.problems += [replace(one, file=self.document.origin(one.key) or default) for one in problems]

    def _table(self, name: str) -> dict[str, Any]:
        value = self.tables.get(name, {})
        if isinstance(value, dict):
            return value
        self._problem(name, f"found {value!r}, expected a table [{name}]")
        return {}

    def _settings(self, name: str, model: type[SectionT], values: Mapping[str, Any]) -> SectionT | None:
        try:
            settings = validate(model, values)
            assert isinstance(settings, model)
            return settings
        except ValidationError as error:
            self._add(problems_in(error, model, values, name))
            return None

    def _train(self) -> TrainSettings | None:
        values = self._table("train")
        limited = {"epochs", "max_steps", "max_time"} & values.keys()
        return self._settings("train", TrainSettings, values if limited else {"epochs": DEFAULT_EPOCHS, **values})

    def _component(self, key: str, kind: str, table: Any) -> Chosen | None:
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            known = ", ".join(manager().registry(kind).names())
            found = f"found {table!r}, " if table is not None else "missing; "
            self._problem(key, f"{found}expected a table with a name, one of: {known}")
            return None
        values = dict(table)
        name = values.pop("name")
        weight = self._weight(key, values) if kind == "losses" else None
        try:
            registered = manager().registry(kind).get(name)
            model = parameters_model(registered, kind)
        except P2PKitError as error:
            self._problem(f"{key}.name", str(error))
            return None
        try:
            return Chosen(kind, registered, validate(model, values), weight)
        except ValidationError as error:
            self._add(problems_in(error, model, values, key))
        except PluginError as error:
            self._problem(key, str(error))
        return None

    def _weight(self, key: str, values: dict[str, Any]) -> float:
        weight = values.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            self._problem(f"{key}.weight", f"found {weight!r}, expected a number of at least 0")
            return 0.0
        return float(weight)

    def _components(self, key: str, kind: str) -> list[Chosen | None]:
        items = self.tables[key]
        if not isinstance(items, list):
            self._problem(key, f"found {items!r}, expected a list of tables, each headed [[{key}]]")
            return []
        if key == "losses" and not items:
            self._problem(key, "the list is empty; a run needs at least one loss")
        return [self._component(f"{key}.{index}", kind, item) for index, item in enumerate(items)]

    def _optimizers(
        self, method: Chosen | None
    ) -> tuple[OptimizerSettings | None, dict[str, OptimizerSettings | None]]:
        """``[optimizer]`` and, for each network of the method, the same with ``[optimizer.NETWORK]`` on top."""
        values = self._table("optimizer")
        networks = self._networks(method) if method else ()
        tables = {key: value for key, value in values.items() if isinstance(value, dict)}
        for name in tables if networks else ():
            if name not in networks:
                allowed = ", ".join(networks)
                self._problem(f"optimizer.{name}", f"no network has that name; networks of the method: {allowed}")
        shared = {key: value for key, value in values.items() if key not in tables}
        base = self._optimizer("optimizer", shared)
        return base, {
            name: self._optimizer(f"optimizer.{name}", {**shared, **tables[name]}) if name in tables else base
            for name in networks
        }

    def _networks(self, method: Chosen) -> Sequence[str]:
        found = getattr(defined(method.registered.factory), "networks", None)
        if isinstance(found, tuple | list) and "generator" in found and len(set(found)) == len(found):
            return found
        owner = f"{method.name!r} of {method.registered.origin}"
        wanted = 'expected a tuple of different names, "generator" among them'
        self._problem("method.name", f"{owner} does not name its networks: found {found!r}, {wanted}")
        return ()

    def _optimizer(self, key: str, values: Mapping[str, Any]) -> OptimizerSettings | None:
        from timm.optim import list_optimizers  # brings torch, which the components have loaded by now

        settings = self._settings(key, OptimizerSettings, values)
        known = [str(name) for name in list_optimizers()]
        if settings is not None and settings.name not in known:
            guess = did_you_mean(settings.name, known)
            self._problem(f"{key}.name", f"nothing is called {settings.name!r}{guess}; there are: {', '.join(known)}")
        return settings
