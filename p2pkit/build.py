"""From a validated recipe to live objects: data, networks, losses, method and metrics, each made once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, repeat
from operator import attrgetter, itemgetter, methodcaller
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate.utils import set_seed
from torch import nn

from p2pkit.components.catalogue import create
from p2pkit.components.host import manager
from p2pkit.components.signature import build_component, defined, splits_of, supplied_names
from p2pkit.contracts import Component, Method, Resampling, Split, WeightedLoss
from p2pkit.data.augmentation import Augmentation, NamedAugmentation
from p2pkit.data.checks import SKIP
from p2pkit.data.colours import colours_of
from p2pkit.data.samples import Samples
from p2pkit.data.sets import Data
from p2pkit.data.side_values import BySide, SideValues
from p2pkit.errors import DataError, MissingData, RecipeError
from p2pkit.evaluation.validation import Measurement, Validation
from p2pkit.images.pixels import Reading
from p2pkit.model_headers import model_header
from p2pkit.networks.encoding import Encoded, SourceEncoding, SourcePart
from p2pkit.recipe.document import Overrides
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.recipe.resolve import read_recipe
from p2pkit.settings import FIXED_KEYS, LAB_AB, LAB_RANGES, Section
from p2pkit.training.callbacks import refuse_unusable
from p2pkit.training.discriminator_augmentation import AugmentedDiscriminator
from p2pkit.training.parts import TrainingParts
from p2pkit.training.prepare import refuse_untrainable
from p2pkit.training.step import AdaptedLoss
from p2pkit.utils.seeds import derived

_NETWORKS = ("generators", "discriminators", "encodings")
"""Kinds whose components are torch modules."""


def load_data(
    recipe: Recipe | Path | str | Mapping[str, Any], overrides: Overrides = (), refuse_problems: bool = True,
    splits: Collection[Split] = get_args(Split),
) -> Data:  # fmt: skip
    """The train, val and test set of a recipe, or of a recipe file; ``overrides`` as in :func:`p2pkit.train`.

    Sets that are not among ``splits`` are empty; without ``refuse_problems`` they may have problems.

    Raises:
        RecipeError: the recipe is missing or invalid, or its data set is not one.
        DataError: the data is missing, has problems and the policy is to stop, or there is no training sample.
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, overrides)
    chosen, made, sets, notices = recipe.data, dict[Split, Any](), list[Samples](), list[str]()
    try:
        for split in get_args(Split):
            made[split] = make(chosen, split=split) if split in splits and split in splits_of(chosen.registered) else ()
    except MissingData as error:
        raise error.with_remedy(chosen.values.obtain) from error
    of_files = any(map(hasattr, made.values(), repeat("source_files")))
    if chosen.values.split is not None or of_files or not (made["val"] or made["test"]):
        from p2pkit.data.splitting import settled_sets

        made, notices = settled_sets(made, chosen.origin, chosen.values.split, recipe.run.seed)
    values, ranges, taking = _values(recipe)
    whole, cache = chosen.values.fingerprint == "whole", recipe.loader.cache
    made_by = f"{chosen.table()} {manager().code_behind(chosen.registered.distribution)}" if cache == "disk" else ""
    for split, dataset in made.items():
        sets.append(Samples(dataset, chosen.origin, split, recipe.run.seed, "pair", cache, taking, whole, made_by))
    for each in chain(sets, filter(None, map(attrgetter("targets"), sets))):
        each.keeps = not recipe.transform.reduced_jpeg  # until it is known what is read at reduced size
    problems = dict.fromkeys(chain.from_iterable(map(attrgetter("problems"), sets)))
    if problems and refuse_problems and recipe.loader.bad_data == "stop":
        raise DataError("\n".join([*problems, SKIP]))
    train, val, test = sets
    if "train" in splits and (not len(train) or (train.targets is not None and not len(train.targets))):
        what = "pairs" if train.targets is None else "images"
        raise DataError("\n".join([f"data: {chosen.name!r} holds no training {what}", *train.problems]))
    if recipe.validation.split == "test" and len(val) and not len(test):
        raise RecipeError(f'validation.split is "test", but {chosen.origin} has no test set; set it to "val"')
    validation = val if recipe.validation.split == "val" and len(val) else test
    return Data(
        train, val, test, validation, recipe.loader.bad_data, values, ranges, recipe.mask.range, notices,
        transform=recipe.transform,
    )  # fmt: skip


def _values(recipe: Recipe) -> tuple[BySide, BySide, dict[str, Any]]:
    """What a recipe says of the values and ranges of each side, and what is taken of the channels of files."""
    values, ranges, taking = BySide(), BySide(), dict[str, Any]()
    sides: dict[str, Any] = {"source": recipe.source, "target": recipe.target}
    sides |= {f"source.{name}": settings for name, settings in recipe.sources.items()}
    for side, settings in sides.items():
        given = settings.range or (None if settings.percentiles else LAB_RANGES.get(settings.channels or ""))
        rule, channels, ranges[side] = str(given or "default"), (), None
        if isinstance(given, list):
            channels, rule = tuple(given), "declared"
            ranges[side] = min(channels)[0], max(map(itemgetter(1), channels))
        elif isinstance(given, tuple):
            ranges[side], rule = given, "declared"
        elif settings.percentiles:
            rule = "percentiles"
        encoding = recipe.encoding if side == "source" else recipe.encodings.get(side.removeprefix("source."))
        encoding = None if side == "target" else encoding
        palette = settings.palette
        if encoding is not None and hasattr(defined(encoding.registered.factory), "class_numbers"):
            rule = "labels" if rule in ("declared", "type", "default") else rule
            palette = palette or "labels"
        nodata = None if settings.nodata is None else float(settings.nodata)
        logarithmic, masked = settings.mapping == "logarithmic", settings.mask is not None
        if encoding is not None and (channels or logarithmic):
            what = "takes stored values: leave mapping out, and give one range"
            raise RecipeError(f"{side}: {encoding.origin} {what}")
        reading = Reading(nodata, settings.fill, masked, channels, logarithmic)
        shades = rule != "labels" and not palette and getattr(settings, "resampling", None) != "nearest"
        shades = shades and encoding is None and nodata is None and settings.fill is None and not masked
        values[side] = SideValues(rule, settings.percentiles, reading, encoding is not None, shades)
        if settings.channels or settings.alpha or palette or side.startswith("source."):
            from p2pkit.images.channels import Taking

            taking[side] = Taking(settings.channels, settings.alpha, palette, nodata)
    return values, ranges, taking


def augmentation(
    recipe: Recipe, parts: Sequence[SourcePart] = (), channels: Mapping[str, int] | None = None, scale: int = 0
) -> Augmentation:
    """What the samples go through, the sources being ``parts``, and targets ``scale`` times as large.

    Without the ``channels`` of both sides there is only what sizes depend on: ``[transform]``.
    """
    chosen = recipe.augmentations if channels is not None else ()
    augmentations = [NamedAugmentation(each.origin, make(each, **(channels or {}))) for each in chosen]
    plain_parts = tuple(map(methodcaller("_replace", encoding=None), parts))  # for workers, which may be spawned
    return Augmentation(recipe.transform, recipe.run.seed, plain_parts, augmentations, scale)


def build(
    recipe: Recipe, data: Data, device: torch.device | None = None, callbacks: Sequence[Any] = ()
) -> TrainingParts:
    """Everything that a run is made of: networks, losses, method and metrics, in this order, from the recipe's seed.

    ``device`` is where networks are made; ``callbacks`` come after the recipe's own.

    Raises:
        RecipeError: a component cannot be made, or is not what its kind has to be.
    """
    size = augmentation(recipe).sizes(data.first.header.source[:2]).crop
    recipe = replace(recipe, generator=recipe.generator.fitted(size))
    networks = _Networks(recipe, data)
    set_seed(derived(recipe.run.seed, "weights") % 2**32)
    with device or nullcontext():
        generator = networks.made(recipe.generator)
        discriminator = networks.made(recipe.discriminator) if recipe.discriminator else None
    losses = _losses(recipe, data)
    supplied = {"generator": generator, "losses": losses, **data.channels}
    if recipe.discriminator:
        supplied |= {"discriminator": discriminator, "make_discriminator": partial(networks.made, recipe.discriminator)}
    with device or nullcontext():
        method: Method = make(recipe.method, **supplied)
    for name in method.networks:
        refuse_untrainable(recipe.method.origin, method, name)
    origins = {}
    for kind in ("generator", "discriminator", "method", "encoding", "schedule"):
        if (chosen := getattr(recipe, kind)) is not None:
            origins[kind] = chosen.origin
    origins |= {f"encoding.{name}": chosen.origin for name, chosen in recipe.encodings.items()}
    for loss, chosen in zip(losses, recipe.losses, strict=True):
        origins[f"losses.{loss.name}"] = chosen.origin
    augmented = augmentation(recipe, networks.sources[0], data.channels, data.spec.scale)
    measured = replace(validation(recipe, data), augmentation=augmented, encoding=networks.sources[1])
    optimizers, clip_gradient_norm = {}, {}
    for name, chosen in recipe.optimizers.items():
        optimizers[name], clip_gradient_norm[name] = partial(make, chosen), chosen.values.clip_gradient_norm
        origins[f"optimizer.{name}"] = chosen.origin
    parts = TrainingParts(
        recipe.run, recipe.loader, recipe.train, measured.train_set, measured.spec, augmented,
        generator=generator, discriminator=discriminator, losses=losses, method=method,
        optimizers=optimizers, clip_gradient_norm=clip_gradient_norm,
        schedule=make(recipe.schedule), warmup=recipe.schedule.values.warmup,
        validation=measured, header=model_header(recipe, data, augmentation(recipe)), sources=networks.sources[0],
        origins=origins,
    )  # fmt: skip
    wanted = recipe.callbacks or callbacks or recipe.validation.patience
    return _with_callbacks(parts, recipe, callbacks) if wanted else parts


def validation(recipe: Recipe, data: Data) -> Validation:
    """The recipe's metrics, and the set to take them on, of sources as they are.

    Raises:
        RecipeError: a metric cannot be made.
    """
    (low, high), dtype, metrics = data.value_range("target"), data.first.target.dtype, []
    for name, chosen in zip(_numbered(map(attrgetter("name"), recipe.metrics)), recipe.metrics, strict=True):
        metrics.append(Measurement(chosen.origin, name, make(chosen)))
    logarithmic = recipe.target.mapping == "logarithmic"
    colours = colours_of(data) if recipe.target.channels == LAB_AB else None
    values = f"{low:g} to {high:g} of {dtype}{', by their logarithms' if logarithmic else ''}"
    train, measured = data.as_read()
    return Validation(
        train, measured, data.spec, augmentation(recipe), metrics, recipe.validation, data.bad_data,
        "" if colours or (dtype == "uint8" and not logarithmic) else values, colours=colours,
    )  # fmt: skip


def build_without_weights(recipe: Recipe, data: Data) -> TrainingParts:
    """The same with networks on torch's meta device, which take no memory; real ones where that cannot be."""
    try:
        return build(recipe, data, torch.device("meta"))
    except RecipeError:  # a network that looks at its own weights as it is made
        return build(recipe, data)


def build_sources(recipe: Recipe, data: Data) -> Sequence[SourcePart]:
    """What the sources are, each with its encoding, if it has one.

    Raises:
        RecipeError: an encoding cannot be made, or does not take such sources.
    """
    return _Networks(recipe, data).sources[0]


def make(chosen: Chosen, **supplied: Any) -> Component:
    """The component that a recipe names, with what the assembly ``supplied``."""
    parameters = dict(chosen.values)
    for name in FIXED_KEYS.get(chosen.kind, Section).model_fields:
        del parameters[name]
    made = build_component(chosen.registered, chosen.kind, parameters, supplied)
    if chosen.kind in _NETWORKS and not isinstance(made, nn.Module):
        raise RecipeError(f"{chosen.origin} makes a {type(made).__name__} where a torch.nn.Module is expected")
    return made


@dataclass(frozen=True)
class _Networks:
    """Makes a recipe's networks, each behind the recipe's encoding if it has one."""

    recipe: Recipe
    data: Data

    @cached_property
    def sources(self) -> tuple[Sequence[SourcePart], Any]:
        """What the sources are, and the encoding through which all networks see them, None without one."""
        first, parts, recipe = self.data.first.header, [], self.recipe
        if recipe.encoding is not None and first.parts:
            raise RecipeError("encoding: with several sources each has its own; write [source.NAME.encoding]")
        for name, channels in first.parts or (("", first.source[2]),):
            chosen = recipe.encodings.get(name) if name else recipe.encoding
            encoding = chosen and self._encoding(chosen, channels, f"source.{name}".rstrip("."))
            own: Any = recipe.sources.get(name, recipe.source).resampling
            resampling = own or getattr(encoding, "resampling", "bicubic")
            parts.append(SourcePart(name, channels, resampling, encoding))
        if len(parts) == 1 or not recipe.encodings:
            return parts, parts[0].encoding
        return parts, SourceEncoding(parts)

    def _encoding(self, chosen: Chosen, channels: int, side: str) -> Any:
        encoding = make(chosen, source_channels=channels, source_range=self.data.value_range(side))
        made, resampling = getattr(encoding, "channels", None), getattr(encoding, "resampling", None)
        if not isinstance(made, int) or made < 1:
            raise RecipeError(f"{chosen.origin}: channels is {made!r}, expected a number from 1 on")
        if resampling not in get_args(Resampling):
            allowed = ", ".join(get_args(Resampling))
            raise RecipeError(f"{chosen.origin}: resampling is {resampling!r}, expected one of: {allowed}")
        return encoding

    def made(self, chosen: Chosen) -> nn.Module:
        """A network for the channels that it sees; a discriminator with the recipe's augmentation."""
        seen, scale, (parts, encoding) = {**self.data.channels}, self.data.spec.scale, self.sources
        if encoding is not None:
            seen["source_channels"] = encoding.channels
        if chosen.kind == "generators" and "scale" in supplied_names(chosen.registered.factory, chosen.kind):
            seen["scale"] = scale
        elif chosen.kind == "generators" and scale > 1:
            raise RecipeError(
                f"generator.name: {chosen.origin} makes images of the size of the sources, and the targets are {scale} "
                "times as high and wide; choose one that takes scale, such as resnet, unet or timm_unet"
            )
        network: nn.Module = make(chosen, **seen)
        settings = self.recipe.discriminator_augmentation
        if settings.policy and chosen.kind == "discriminators":
            network = AugmentedDiscriminator(network, settings, _decision_boundary(self.recipe))
        enlarged = parts if scale > 1 and chosen.kind == "discriminators" else ()
        if encoding is None and not enlarged:
            return network
        # a copy, because networks go to other devices
        return Encoded(deepcopy(encoding) if encoding is not None else nn.Identity(), network, enlarged)


def _decision_boundary(recipe: Recipe) -> float:
    """The logit between real and fake, as the losses have it, where an adaptive augmentation asks for it."""
    boundary, adaptive = 0.0, recipe.discriminator_augmentation.adaptive_target is not None
    for chosen in filter(attrgetter("values.weight"), recipe.losses) if adaptive else ():
        stated = getattr(defined(chosen.registered.factory), "decision_boundary", 0.0)
        if stated is None:
            raise RecipeError(
                f"discriminator_augmentation.adaptive_target: {chosen.origin} has no logit that separates real from "
                "fake, which an adaptive probability compares with. Leave the key out and set probability"
            )
        boundary = stated or boundary
    return boundary


def _numbered(names: Iterable[str]) -> list[str]:
    """The names; a number is put behind each that has come before: l1, gan, l1_2."""
    numbered, counts = list[str](), Counter[str]()
    for name in names:
        counts[name] += 1
        numbered.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return numbered


def _losses(recipe: Recipe, data: Data) -> list[WeightedLoss]:
    losses = []
    for name, chosen in zip(_numbered(map(attrgetter("name"), recipe.losses)), recipe.losses, strict=True):
        made = make(chosen, **data.channels)
        try:
            losses.append(WeightedLoss(name, chosen.values.weight, AdaptedLoss.of(made)))
        except RecipeError as error:
            raise RecipeError(f"{chosen.origin}: {error}") from error
    return losses


def _with_callbacks(parts: TrainingParts, recipe: Recipe, given: Sequence[Any]) -> TrainingParts:
    """``parts`` with callbacks: the recipe's, that of ``validation.patience``, and those that are given as objects."""
    made = [(chosen.name, chosen.origin, make(chosen)) for chosen in recipe.callbacks]
    if patience := recipe.validation.patience:
        made.append(("patience", "validation.patience", create("callbacks", "early_stopping", patience=patience)))
    for callback in given:
        name = getattr(callback, "__name__", type(callback).__name__)
        made.append((name, f"the callback {name}", callback))
    callbacks, origins = dict[str, Any](), dict(parts.origins)
    for name, (_, origin, callback) in zip(_numbered(map(itemgetter(0), made)), made, strict=True):
        refuse_unusable(callback, origin)
        callbacks[f"callbacks.{name}"], origins[f"callbacks.{name}"] = callback, origin
    return replace(parts, callbacks=callbacks, origins=origins)
