"""What can be known of a recipe before it trains: its networks, their sizes, and what the data set holds."""

from __future__ import annotations

from collections.abc import Iterator

from p2pkit.networks.receptive_field import receptive_field
from p2pkit.recipe.assemble import Data, load_data
from p2pkit.recipe.networks import make
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.trial import try_recipe
from p2pkit.recipe.value_ranges import found_ranges, with_ranges


def findings(recipe: Recipe) -> Iterator[str]:
    """Lines of text about a recipe's data and networks.

    Raises:
        DataError: the data is missing or cannot be read.
        RecipeError: the networks do not take what the data gives.
    """
    data = load_data(recipe)
    data = with_ranges(data, found_ranges(recipe, data))
    yield f"recipe {recipe.document.file}: all keys are valid"
    yield from _about_data(recipe, data)
    yield from _about_networks(recipe, data)


def _about_data(recipe: Recipe, data: Data) -> Iterator[str]:
    for notice in data.notices:
        yield f"NOTICE: {notice}"
    yield f"data {recipe.data.name}: {len(data.pairs)} training pairs, {len(data.held_out)} held out"
    for side in ("source", "target"):
        pixels = getattr(data.first, side)
        height, width, channels = pixels.shape
        low, high = data.value_range(side)
        of_values = f"{channels} channels of {pixels.dtype}, values {low:g} to {high:g}"
        yield f"  {side}: {height}x{width} (height x width), {of_values}"


def _about_networks(recipe: Recipe, data: Data) -> Iterator[str]:
    tried = try_recipe(recipe, data)
    yield f"generator {recipe.generator.name}: {tried.generator}"
    yield f"discriminator {recipe.discriminator.name}: {tried.discriminator}"
    # made for the sources themselves: it sees as far, with less memory than an encoding of many channels takes
    field = receptive_field(make(recipe.discriminator, **data.channels), **data.channels)
    yield f"  receptive field: {field} pixels" if field else "  receptive field: all of the image, or not measurable"
    for name, network in tried.others.items():
        yield f"{name} of {recipe.method.name}: {network}"
