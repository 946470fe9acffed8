"""Every pair of a recipe's data set read as training reads it, and what is wrong with each."""

from __future__ import annotations

from dataclasses import replace

from p2pkit.errors import DataError
from p2pkit.recipe.assemble import load_data
from p2pkit.recipe.data_rules import Place, Rules, go_through, places
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.value_ranges import found_ranges, with_ranges


def bad_pairs(recipe: Recipe) -> tuple[int, list[str]]:
    """How many pairs there are in both splits, and a message for each that cannot be used.

    Raises:
        DataError: the data is missing, no training pair can be used, or the generator takes none of that size.
    """
    data = replace(load_data(recipe), bad_data="skip")
    data = with_ranges(data, found_ranges(recipe, data))
    form = data.form
    rules = Rules(recipe, form.first)

    def fault(place: Place) -> str | None:
        try:
            pair = place.split(data)[place.number]
            form.tensors(pair)
            rules.refuse_unusable(pair.header, place.trained)
            if place.trained:
                rules.refuse_unfitting(pair.header)
        except DataError as error:
            return str(error)
        return None

    chosen = places(data)
    return len(chosen), [found for found in go_through("reading", chosen, fault) if found]
