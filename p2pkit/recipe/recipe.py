"""A recipe, validated and complete: typed sections and the chosen components, with all defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tomlkit
from pydantic import BaseModel

from p2pkit.parameters import coerced, plain
from p2pkit.recipe.document import Document
from p2pkit.registry import Registered
from p2pkit.settings import (
    EvaluationSettings,
    LoaderSettings,
    OptimizerSettings,
    RunSettings,
    ScheduleSettings,
    SideSettings,
    TrainSettings,
    TransformSettings,
)


@dataclass(frozen=True)
class Chosen:
    """A component that a recipe names, with its validated parameters."""

    kind: str
    registered: Registered
    parameters: BaseModel
    weight: float | None = None
    """A loss's weight; None for the other kinds."""

    @property
    def name(self) -> str:
        """The name under which the component is registered."""
        return self.registered.name

    def arguments(self) -> dict[str, Any]:
        """The parameters as Python objects, to call the factory with."""
        return coerced(self.parameters)

    def table(self) -> dict[str, Any]:
        """The component as a recipe writes it."""
        weight = {} if self.weight is None else {"weight": self.weight}
        return {"name": self.name, **weight, **plain(self.parameters)}


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run."""

    document: Document
    run: RunSettings
    data: Chosen
    source: SideSettings
    target: SideSettings
    loader: LoaderSettings
    transform: TransformSettings
    generator: Chosen
    discriminator: Chosen
    losses: list[Chosen]
    method: Chosen
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    train: TrainSettings
    metrics: list[Chosen]
    evaluation: EvaluationSettings
    encoding: Chosen | None = None
    """What the networks see of sources; None for the sources themselves."""
    optimizers: dict[str, OptimizerSettings] = field(default_factory=dict)
    """The optimizer of each network, ``[optimizer]`` with its override."""

    def tables(self) -> dict[str, Any]:
        """The recipe as plain tables, all defaults filled in, in the order in which people write them."""
        return {
            "run": plain(self.run),
            "data": self.data.table(),
            "source": plain(self.source),
            "target": plain(self.target),
            "loader": plain(self.loader),
            "transform": plain(self.transform),
            **({} if self.encoding is None else {"encoding": self.encoding.table()}),
            "generator": self.generator.table(),
            "discriminator": self.discriminator.table(),
            "losses": [loss.table() for loss in self.losses],
            "method": self.method.table(),
            "optimizer": plain(self.optimizer) | self._optimizer_overrides(),
            "schedule": plain(self.schedule),
            "train": plain(self.train),
            "metrics": [metric.table() for metric in self.metrics],
            "evaluation": plain(self.evaluation),
        }

    def _optimizer_overrides(self) -> dict[str, Any]:
        return {name: plain(own) for name, own in self.optimizers.items() if own != self.optimizer}

    def toml(self, with_origins: bool = False) -> str:
        """The recipe as one TOML file; ``with_origins`` adds to each key where it came from."""
        document = tomlkit.document()
        for section, value in self.tables().items():
            if isinstance(value, list):
                document.add(section, self._array(section, value, with_origins))
            else:
                document.add(section, self._table(section, value, with_origins))
        return tomlkit.dumps(document)

    def _array(self, key: str, items: list[dict[str, Any]], with_origins: bool) -> tomlkit.items.AoT:
        tables = [self._table(f"{key}.{index}", item, with_origins) for index, item in enumerate(items)]
        return tomlkit.items.AoT(tables)

    def _table(self, key: str, values: dict[str, Any], with_origins: bool) -> tomlkit.items.Table:
        table = tomlkit.table()
        for name, value in values.items():
            here = f"{key}.{name}"
            if isinstance(value, dict):
                table.add(name, self._table(here, value, with_origins))
                continue
            item = tomlkit.item(value)
            if with_origins:
                item.comment(self.document.origins.get(tuple(here.split(".")), "default"))
            table.add(name, item)
        return table


def flattened(tables: Any, key: str = "") -> dict[str, Any]:
    """The values of nested tables and of lists of tables, by dotted key."""
    if isinstance(tables, list) and tables and all(isinstance(item, dict) for item in tables):
        tables = {str(index): item for index, item in enumerate(tables)}
    if not isinstance(tables, dict):
        return {key: tables}
    found = (flattened(value, f"{key}.{name}" if key else str(name)) for name, value in tables.items())
    return {path: value for values in found for path, value in values.items()}
