"""``p2pkit check``: everything about a recipe that can be known before it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pkit.cli.options import RECIPE, SET
from p2pkit.cli.tables import print_classes, print_facts, print_text
from p2pkit.errors import DataError, P2PKitError, listed

if TYPE_CHECKING:
    from torch import nn

    from p2pkit.data.checks import HeaderCheck
    from p2pkit.data.class_table import ClassTable
    from p2pkit.data.samples import Data, Samples
    from p2pkit.data.value_statistics import Statistics
    from p2pkit.recipe.recipe import Recipe
    from p2pkit.training.starting_point import StartingPoint

SHOWN = 10
"""How many kinds of trouble are listed."""
CLASSES = 12
"""How many classes of label maps."""


@click.command("check", short_help="Check a recipe: its keys, its networks, its data.")
@RECIPE
@SET
def command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Check RECIPE without training it; of a folder of image pairs the recipe that `p2pkit init` makes for it.

    Prints what the data set holds, and of each network its parameters, output size and receptive field.
    """
    from p2pkit.recipe.resolve import read_recipe

    if recipe.is_dir():
        from p2pkit.cli.init import made_recipe

        resolved = made_recipe(recipe).recipe(overrides)
    else:
        resolved = read_recipe(recipe, overrides)
    print_facts([("recipe", f"{resolved.document.file}, all keys are valid")])

    from p2pkit.build import load_data
    from p2pkit.data.checks import SKIP

    checked = _check_data(resolved, load_data(resolved, refuse_problems=False))
    _print_data(resolved, checked)
    if checked.troubles:
        kinds = "1 kind" if len(checked.troubles) == 1 else f"{len(checked.troubles)} kinds"
        remedy = f"\n{SKIP}" if checked.skippable else ""
        raise DataError(f"{kinds} of trouble with the data:{listed(checked.troubles, SHOWN)}{remedy}")
    click.echo()
    _print_networks(resolved, checked)


@dataclass
class _Checked:
    """What has been found out about data, and the data with all of its ranges."""

    data: Data
    headers: HeaderCheck
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    """What each side holds; empty where it cannot be known."""
    classes: Sequence[Sequence[ClassTable]] = ()
    """Of each source that is a label map."""
    troubles: list[str] = field(default_factory=list)
    """What a run would refuse, a line for each kind."""
    skipped: list[str] = field(default_factory=list)
    """What it would skip."""
    notices: list[str] = field(default_factory=list)
    """What else is to be said of its samples."""
    start: StartingPoint | None = None
    """The model that the run would begin with."""
    skippable: bool = False
    """Some of the troubles are of samples that it could skip."""


def _check_data(recipe: Recipe, data: Data) -> _Checked:
    """Look at headers and values, and go on past whatever is wrong."""
    from p2pkit.build import augmentation, build_sources
    from p2pkit.data.checks import Finding, HeaderCheck, by_kind, kind_of
    from p2pkit.data.class_table import count_classes, problem_of
    from p2pkit.data.found_values import find_values

    lenient = replace(data, bad_data="skip")
    headers = HeaderCheck(lenient, augmentation(recipe), recipe.loader.batch_size > 1)
    checked, unusable = _Checked(lenient, headers), headers.findings
    try:
        headers.scan(f"{recipe.data.name} {data.fingerprint}")
        checked.notices += headers.notices
        if recipe.train.init_from is not None:
            from p2pkit.training.starting_point import StartingPoint

            checked.start = StartingPoint.read(recipe.train.init_from)
            checked.data = lenient = checked.start.with_ranges(lenient)
            checked.notices += lenient.found_notices
        found = find_values(lenient)
        checked.data = lenient.with_ranges(found.ranges, found.notices)
        unusable = list(headers.findings)
        known = " ".join(finding.message for finding in unusable)
        several = {kind_of(finding.message) for finding in unusable if finding.samples > 1}  # of which one is named
        for message in found.looked.unread:
            if message.partition(": ")[0] not in known and kind_of(message) not in several:
                unusable.append(Finding(message, 1))
        if checked.data.spec:
            checked.statistics = found.statistics
        checked.classes = count_classes(checked.data, build_sources(recipe, checked.data))
    except P2PKitError as error:
        unusable = unusable or headers.findings
        if not unusable or checked.data is not lenient:  # it is not about what is listed below
            checked.troubles.append(str(error))
    checked.troubles += filter(None, map(problem_of, checked.classes))
    as_they_are = checked.skipped if data.bad_data == "skip" and checked.statistics else checked.troubles
    as_they_are += [*data.problems, *by_kind(unusable)]
    checked.skippable = bool(data.problems or unusable) and data.bad_data == "stop"
    return checked


def _print_data(recipe: Recipe, checked: _Checked) -> None:
    data, values = checked.data, list[str]()
    notices = [notice for notice in data.notices if notice not in data.problems]
    for notice in (*(f"skipped: {each}" for each in checked.skipped), *notices, *checked.notices):
        print_text(f"NOTICE: {notice}")
    facts = [("data", f"{recipe.data.name}, {', '.join(map(_count, (data.train, data.val, data.test)))}")]
    for side, held in checked.statistics.items():
        image: Any = data.first.image(side)
        height, width, channels = image.shape
        described = f"{height}x{width} (height x width), {channels} channels of {image.dtype}"
        if side == "mask":
            facts.append((side, f"{described}; found {held.shown}"))
            continue
        (low, high), said = data.value_range(side), data.values[side]
        facts.append((side, f"{described}, values {low:g} to {high:g}"))
        if said.rule != "labels":
            how = ", by their logarithms" if said.reading.logarithmic else ""
            values.append(f"{side} values: {_why(data, side)} becomes -1 to 1{how}; found {held.shown}")
    print_facts(facts)
    for line in values:
        print_text(line)
    for tables in checked.classes:
        print_classes(tables, CLASSES)


def _why(data: Data, side: str) -> str:
    """Where the range of a side is from."""
    chosen, (rule, *_, reading, _) = data.ranges[side], data.values[side]
    if chosen is None:
        return "the range of their type"
    if reading.ranges:
        return "each channel's range in the recipe"
    return {"declared": "the range in the recipe", "percentiles": "the range of percentiles"}.get(rule, "what is found")


def _count(samples: Samples) -> str:
    from p2pkit.data.value_statistics import called

    if samples.targets is None:
        return f"{len(samples)} {called(samples)} pairs"
    return f"{len(samples)} {called(samples)} sources and {len(samples.targets)} targets"


def _print_networks(recipe: Recipe, checked: _Checked) -> None:
    from p2pkit.build import build_without_weights, make
    from p2pkit.networks.receptive_field import receptive_field
    from p2pkit.runs import with_perceptual_metric
    from p2pkit.training.trial import try_shapes

    data = checked.data
    if not recipe.names_metrics:
        recipe = with_perceptual_metric(recipe, data)
    parts = build_without_weights(recipe, data)
    checked.headers.refuse_sizes(parts.generator)
    shapes = try_shapes(parts)
    sizes = f"{_sides(shapes.source)} -> {_sides(shapes.fake)}"
    fitted, named = recipe.generator.fitted((shapes.source[1], shapes.source[2])).values, recipe.generator.name
    for name in sorted(fitted.model_fields_set - recipe.generator.values.model_fields_set):
        named += f", {name} = {getattr(fitted, name)} by the training size"
    facts = [("generator", f"{named}, {_parameters(parts.generator)}, {sizes}")]
    if recipe.discriminator is not None and parts.discriminator is not None:
        logits = ", ".join(_sides(logits[1:]) for logits in shapes.logits)
        described = f"{recipe.discriminator.name}, {_parameters(parts.discriminator)}, logits {logits}"
        # for the sources themselves it sees as far as behind an encoding, with less memory
        field = receptive_field(make(recipe.discriminator, **data.channels), **data.channels)
        seen = f"{field} pixels" if field else "all of the image, or not measurable"
        facts += [("discriminator", described), ("receptive field", seen)]
    for name in parts.method.networks:
        if name not in ("generator", "discriminator"):
            facts.append((f"{name} of {recipe.method.name}", _parameters(getattr(parts.method, name))))
    print_facts(facts)
    for report in checked.start.put_into(parts)[1] if checked.start else ():
        print_text(report)


def _parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.3f} M parameters"


def _sides(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
