"""From a validated recipe to the live objects that the engine trains."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any

import accelerate
import numpy as np
import timm
import torch
import torchvision

from p2pkit.contracts import (
    Metric,
    Pair,
    PairedDataset,
    PairHeader,
    ValueRange,
    WeightedLoss,
    dtype_range,
)
from p2pkit.data.bad_samples import Substitution
from p2pkit.errors import DataError, RecipeError
from p2pkit.evaluation.held_out import HeldOut
from p2pkit.inference.model_file import EncodingHeader, ModelHeader
from p2pkit.parameters import plain
from p2pkit.plugins import manager
from p2pkit.recipe.networks import Networks, make, transform_of
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.settings import BadData, height_width
from p2pkit.training.pair_form import PairForm
from p2pkit.training.parts import TrainingParts
from p2pkit.version import __version__


@dataclass(frozen=True)
class Data:
    """The two splits of a recipe's data set; no pair is read before it is asked for."""

    pairs: PairedDataset
    held_out: PairedDataset
    bad_data: BadData
    source: ValueRange | None = None
    """The range of the sources' values; None for that of their type."""
    target: ValueRange | None = None
    encoded: bool = False
    """Sources are numbers for an encoding, which mean the same in files of any type."""

    @cached_property
    def first(self) -> Pair:
        """The first training pair that can be used: it tells the channels.

        Raises:
            DataError: it cannot be used and the policy is to stop, or none can.
        """

        def checked(index: int) -> Pair:
            pair = self.pairs[index]
            PairForm(pair.header, self.source, self.target).tensors(pair)
            return pair

        return Substitution(len(self.pairs), self.bad_data).first_usable(0, checked)[0]

    @property
    def form(self) -> PairForm:
        """What all pairs must have in common with the first.

        Raises:
            RecipeError: the targets are of a type that does not hold the range of the target's values.
        """
        low, high = self.value_range("target")
        dtype = self.first.target.dtype
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= low < high <= np.iinfo(dtype).max:
            raise RecipeError(f"target.range: found {low:g} to {high:g}, but targets are of {dtype}, which holds less")
        source = self.value_range("source") if self.encoded else self.source
        return PairForm(self.first.header, source, self.target)

    def value_range(self, side: str) -> ValueRange:
        """The range of values of "source" or "target" that becomes [-1, 1]."""
        chosen: ValueRange | None = getattr(self, side)
        return chosen or dtype_range(getattr(self.first, side).dtype)

    @property
    def channels(self) -> dict[str, int]:
        """What components ask for as ``source_channels`` and ``target_channels``."""
        return channels_of(self.first.header)

    def networks(self, recipe: Recipe) -> Networks:
        """What makes the networks of ``recipe`` for this data."""
        return Networks(recipe, self.channels, self.value_range("source"))

    @cached_property  # it looks at every file
    def fingerprint(self) -> str:
        """A text that changes when either split does."""
        splits = [self.pairs, self.held_out] if len(self.held_out) else [self.pairs]
        return " + ".join(split.fingerprint() for split in splits)

    @property
    def notices(self) -> list[str]:
        """What the data set wants everybody to know."""
        return list(getattr(self.pairs, "notices", ()))


def channels_of(pair: PairHeader) -> dict[str, int]:
    """What components ask for as ``source_channels`` and ``target_channels``, for data like ``pair``."""
    return {"source_channels": pair.source[2], "target_channels": pair.target[2]}


def load_data(recipe: Recipe) -> Data:
    """Both splits of the recipe's data set.

    Raises:
        DataError: the data is missing, or there is no training pair.
    """
    pairs, held_out = make(recipe.data, split="train"), make(recipe.data, split="test")
    if not len(pairs):
        raise DataError(f"data: {recipe.data.name!r} holds no training pairs")
    encoded = recipe.encoding is not None
    return Data(pairs, held_out, recipe.loader.bad_data, recipe.source.range, recipe.target.range, encoded)


def make_losses(recipe: Recipe, data: Data) -> list[WeightedLoss]:
    """The recipe's losses, under names that differ."""
    names = _distinct([loss.name for loss in recipe.losses])
    return [
        WeightedLoss(name, loss.weight or 0.0, make(loss, **data.channels))
        for name, loss in zip(names, recipe.losses, strict=True)
    ]


def assemble(recipe: Recipe, data: Data) -> TrainingParts:
    """Everything that a run is made of."""
    networks = data.networks(recipe)
    both = networks.both()
    losses = make_losses(recipe, data)
    transform = transform_of(recipe, networks.encoding)
    form, settings = data.form, recipe.evaluation
    metrics: list[Callable[[], Metric]] = [partial(make, chosen) for chosen in recipe.metrics]
    return TrainingParts(
        run=recipe.run,
        loader=recipe.loader,
        optimizers=recipe.optimizers,
        schedule=recipe.schedule,
        train=recipe.train,
        pairs=data.pairs,
        held_out=data.held_out,
        form=form,
        transform=transform,
        method=make(recipe.method, **both, make_discriminator=networks.discriminator, losses=losses, **data.channels),
        header=model_header(recipe, data),
        evaluation=HeldOut(
            data.pairs, data.held_out, form, transform, metrics, settings, data.bad_data, networks.encoding
        ),
        picture=getattr(networks.encoding, "picture", None),
    )


def _distinct(names: list[str]) -> list[str]:
    """Names with a number behind each that has come before: l1, gan, l1_2."""
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if count == 1 else f"{name}_{count}" for name, count in zip(names, counts, strict=True)]


def model_header(recipe: Recipe, data: Data) -> ModelHeader:
    """What the model file will say about itself."""
    size = recipe.transform.crop_size or recipe.transform.load_size
    return ModelHeader(
        generator=recipe.generator.name,
        parameters=plain(recipe.generator.parameters),
        distribution=recipe.generator.registered.distribution,
        distribution_version=recipe.generator.registered.version,
        encoding=None if recipe.encoding is None else _encoding_header(recipe.encoding),
        source_dtype=str(data.first.source.dtype),
        target_dtype=str(data.first.target.dtype),
        source_range=data.form.source,
        target_range=data.form.target,
        target_ending=getattr(data.pairs, "target_ending", ""),
        size=None if size is None else height_width(size),
        recipe=recipe.toml(),
        data=f"{recipe.data.name} {data.fingerprint}",
        source_channels=data.first.source.shape[2],
        target_channels=data.first.target.shape[2],
    )


def _encoding_header(chosen: Chosen) -> EncodingHeader:
    return EncodingHeader(
        name=chosen.name, parameters=plain(chosen.parameters), distribution=chosen.registered.distribution,
        distribution_version=chosen.registered.version,
    )  # fmt: skip


def environment(recipe: Recipe, data: Data) -> dict[str, Any]:
    """What a run ran on: versions, plugins, the data's fingerprint and notices, the command."""
    libraries = {module.__name__: module.__version__ for module in (torch, torchvision, accelerate, timm)}
    return {
        "p2pkit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {**libraries, "safetensors": version("safetensors")},
        "plugins": [plugin.origin for plugin in manager().plugins if not plugin.problem],
        "command": sys.argv,
        "data": {
            "name": recipe.data.name,
            "pairs": len(data.pairs),
            "held_out_pairs": len(data.held_out),
            "fingerprint": data.fingerprint,
            "notices": data.notices,
            "ranges": {side: getattr(data, side) for side in ("source", "target") if getattr(data, side)},
        },
    }
