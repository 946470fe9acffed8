"""``p2pkit check``: everything about a recipe that can be known before it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pkit.cli.options import RECIPE, SET
from p2pkit.cli.tables import print_facts, print_text

if TYPE_CHECKING:
    from torch import nn

    from p2pkit.data.samples import Data, Samples
    from p2pkit.recipe.recipe import Recipe


@click.command("check", short_help="Check a recipe: its keys, its networks, its data.")
@RECIPE
@SET
def command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Check RECIPE without training it.

    Prints what the data set holds, and of each network its parameters, output size and receptive field.
    """
    from p2pkit.recipe.resolve import read_recipe

    resolved = read_recipe(recipe, overrides)
    print_facts([("recipe", f"{resolved.document.file}, all keys are valid")])

    from p2pkit.build import load_data
    from p2pkit.data.value_ranges import find_ranges
    from p2pkit.runs import with_perceptual_metric

    data = load_data(resolved)
    data = data.with_ranges(find_ranges(data, resolved.percentiles()))
    if not resolved.names_metrics:
        resolved = with_perceptual_metric(resolved, data)
    _print_data(resolved, data)
    click.echo()
    _print_networks(resolved, data)


def _print_data(recipe: Recipe, data: Data) -> None:
    for notice in data.notices:
        print_text(f"NOTICE: {notice}")
    facts = [("data", f"{recipe.data.name}, {', '.join(map(_count, (data.train, data.val, data.test)))}")]
    for side in ("source", "target"):
        height, width, channels = getattr(data.first, side).shape
        low, high = data.value_range(side)
        of_values = f"{channels} channels of {getattr(data.first, side).dtype}, values {low:g} to {high:g}"
        facts.append((side, f"{height}x{width} (height x width), {of_values}"))
    print_facts(facts)


def _count(samples: Samples) -> str:
    called = "training" if samples.split == "train" else samples.split
    if samples.targets is None:
        return f"{len(samples)} {called} pairs"
    return f"{len(samples)} {called} sources and {len(samples.targets)} targets"


def _print_networks(recipe: Recipe, data: Data) -> None:
    from p2pkit.build import augmentation, build_discriminator, build_without_weights
    from p2pkit.data.checks import HeaderCheck
    from p2pkit.networks.receptive_field import receptive_field
    from p2pkit.training.trial import try_shapes

    headers = HeaderCheck(data, augmentation(recipe), recipe.loader.batch_size > 1)
    if notice := headers.scan(f"{recipe.data.name} {data.fingerprint}"):
        click.echo(f"NOTICE: {notice}")
    parts = build_without_weights(recipe, data)
    headers.refuse_sizes(parts.generator)
    shapes = try_shapes(parts)
    sizes = f"{_sides(shapes.source)} -> {_sides(shapes.fake)}"
    facts = [("generator", f"{recipe.generator.name}, {_parameters(parts.generator)}, {sizes}")]
    if recipe.discriminator is not None and parts.discriminator is not None:
        logits = ", ".join(_sides(logits[1:]) for logits in shapes.logits)
        described = f"{recipe.discriminator.name}, {_parameters(parts.discriminator)}, logits {logits}"
        field = receptive_field(build_discriminator(recipe.discriminator, data), **data.channels)
        seen = f"{field} pixels" if field else "all of the image, or not measurable"
        facts += [("discriminator", described), ("receptive field", seen)]
    for name in parts.method.networks:
        if name not in ("generator", "discriminator"):
            facts.append((f"{name} of {recipe.method.name}", _parameters(getattr(parts.method, name))))
    print_facts(facts)


def _parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.3f} M parameters"


def _sides(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
