"""A recipe, validated and complete: typed sections and the chosen components, with all defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tomlkit

from p2pkit.components.kinds import SINGULAR
from p2pkit.components.registry import Registered
from p2pkit.components.signature import defined, plain
from p2pkit.errors import RecipeError, visible
from p2pkit.recipe.document import Document, flattened
from p2pkit.settings import (
    DiscriminatorAugmentationSettings,
    LoaderSettings,
    MaskSettings,
    RunSettings,
    SideSettings,
    SourceSettings,
    TrainSettings,
    TransformSettings,
    ValidationSettings,
)

ORDER = (
    "run", "data", "source", "target", "mask", "loader", "transform", "augmentations", "encoding", "generator",
    "discriminator", "discriminator_augmentation", "losses", "method", "optimizer", "schedule", "train", "metrics",
    "validation", "callbacks",
)  # fmt: skip
"""The sections, as people write them one after another."""


@dataclass(frozen=True)
class Chosen:
    """A component that a recipe names, with the validated keys of its table."""

    kind: str
    registered: Registered
    values: Any
    """Its table, validated: the model of its parameters, and of the keys that its kind has (settings.FIXED_KEYS)."""

    @property
    def name(self) -> str:
        """The name under which the component is registered."""
        return self.registered.name

    @property
    def origin(self) -> str:
        """Kind, name and distribution, as messages show them."""
        return f"{SINGULAR[self.kind]} {self.name!r} of {self.registered.origin}"

    def fitted(self, size: tuple[int, int]) -> Chosen:
        """The same for training images of ``size``, (height, width): what follows from that where nothing is set.

        A generator's class may have ``defaults_for(size)``, which gives values of its parameters by name.
        """
        follow, values = getattr(defined(self.registered.factory), "defaults_for", None), self.values
        if follow is None:
            return self
        following = dict(follow(size))
        for name in values.model_fields_set | (following.keys() - type(values).model_fields.keys()):
            following.pop(name, None)
        return replace(self, values=values.model_copy(update=following))

    def following(self, other: Chosen) -> Chosen:
        """The same with what follows from the size of images as ``other`` has it, where nothing is set here."""
        if other.name != self.name:
            return self
        fitted = self.fitted((256, 256)).values  # of any size: for the names
        names = fitted.model_fields_set - self.values.model_fields_set
        following = {name: getattr(other.values, name) for name in names}
        return replace(self, values=self.values.model_copy(update=following))

    def table(self) -> dict[str, Any]:
        """The component as a recipe writes it."""
        return {"name": self.name, **plain(self.values)}


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run."""

    document: Document
    run: RunSettings
    data: Chosen
    source: SourceSettings
    target: SideSettings
    mask: MaskSettings
    loader: LoaderSettings
    transform: TransformSettings
    augmentations: list[Chosen]
    generator: Chosen
    discriminator: Chosen | None
    """None where the method trains without one."""
    discriminator_augmentation: DiscriminatorAugmentationSettings
    losses: list[Chosen]
    method: Chosen
    optimizer: Chosen
    schedule: Chosen
    train: TrainSettings
    metrics: list[Chosen]
    validation: ValidationSettings
    callbacks: list[Chosen]
    encoding: Chosen | None = None
    """What the networks see of a single source; None for the source itself."""
    sources: dict[str, SourceSettings] = field(default_factory=dict)
    """``[source.NAME]`` for each of several sources that the recipe names, in its order, on top of ``[source]``."""
    encodings: dict[str, Chosen] = field(default_factory=dict)
    """``[source.NAME.encoding]``: what the networks see of each of several sources that has one."""
    optimizers: dict[str, Chosen] = field(default_factory=dict)
    """The optimizer of each network, ``[optimizer]`` with its override."""
    names_metrics: bool = True
    """Whether it lists metrics itself; if not, it has the default ones."""

    def tables(self) -> dict[str, Any]:
        """The recipe as plain tables, all defaults filled in, in the order in which people write them."""
        tables: dict[str, Any] = {}
        for name in ORDER:
            value = getattr(self, name)
            if isinstance(value, Chosen):
                tables[name] = value.table()
            elif isinstance(value, list):
                tables[name] = list(map(Chosen.table, value))
            elif value is not None:
                tables[name] = plain(value)
        for name, own in self.optimizers.items():
            if own != self.optimizer:
                tables["optimizer"][name] = own.table()
        for name, settings in self.sources.items():
            tables["source"][name] = plain(settings)
            if name in self.encodings:
                tables["source"][name]["encoding"] = self.encodings[name].table()
        return tables

    def toml(self, with_origins: bool = False) -> str:
        """The recipe as one TOML file; ``with_origins`` adds to each key where it came from."""
        document = tomlkit.document()
        for section, value in self.tables().items():
            if not isinstance(value, list):
                document.add(section, self._table(section, value, with_origins))
                continue
            array = tomlkit.aot()
            for index, item in enumerate(value):
                array.append(self._table(f"{section}.{index}", item, with_origins))
            document.add(section, array)
        text = tomlkit.dumps(document)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            named = text[: error.start].rpartition("\n")[2]
            raise RecipeError(
                f"{self.document.file}: {named}...: a name of a file or a folder that is not UTF-8 cannot be kept in a "
                "recipe; rename it, or make a link to it"
            ) from error
        return text

    def _table(self, key: str, values: dict[str, Any], with_origins: bool) -> tomlkit.items.Table:
        table = tomlkit.table()
        for name, value in values.items():
            here = f"{key}.{name}"
            if isinstance(value, dict):
                table.add(name, self._table(here, value, with_origins))
                continue
            item = tomlkit.item(value)
            if with_origins:
                item.comment(visible(self.document.origins.get(tuple(here.split(".")), "default")))
            table.add(name, item)
        return table


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The keys in which two recipes differ, a line each."""
    there, here = flattened(one.tables()), flattened(other.tables())

    def shown(values: Mapping[str, Any], key: str) -> str:
        return repr(values[key]) if key in values else "nothing"

    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return [f"  {key}: {shown(there, key)} there, {shown(here, key)} now" for key in keys]
