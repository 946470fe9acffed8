"""The ranges of values that a recipe asks to be found in its training pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from p2pkit.contracts import ValueRange
from p2pkit.errors import DataError
from p2pkit.images.percentiles import Percentiles
from p2pkit.images.pixels import refuse_not_finite
from p2pkit.recipe.assemble import Data
from p2pkit.recipe.data_rules import Place, go_through, places
from p2pkit.recipe.recipe import Recipe

SIDES = ("source", "target")


def found_ranges(recipe: Recipe, data: Data) -> dict[str, ValueRange]:
    """The range of each side whose recipe section gives ``percentiles``, over all training pairs; they are read twice.

    Raises:
        DataError: a pair cannot be read and the policy is to stop, none can, or all values of a side are the same.
    """
    wanted = {side: getattr(recipe, side).percentiles for side in SIDES}
    searches = {side: Percentiles(percentiles) for side, percentiles in wanted.items() if percentiles}
    if not searches:
        return {}

    def add(place: Place) -> bool:
        try:
            pair = place.split(data)[place.number]
            for side in searches:
                refuse_not_finite(getattr(pair, side), f"{pair.key}, its {side}")
        except DataError:
            if data.bad_data == "stop":
                raise
            return False
        for side, search in searches.items():
            search.add(getattr(pair, side))
        return True

    trained = [place for place in places(data) if place.trained]
    if not any(list(go_through("finding the range of values", trained, add))):
        raise DataError("percentiles: none of the training pairs can be read")
    for search in searches.values():
        search.read_again()
    list(go_through("finding it exactly", trained, add))
    return {side: _range(side, wanted[side], search) for side, search in searches.items()}


def _range(side: str, wanted: tuple[float, float], search: Percentiles) -> ValueRange:
    low, high = search.found()
    if not -math.inf < low < high < math.inf:
        raise DataError(
            f"{side}.percentiles: percentiles {wanted[0]:g} and {wanted[1]:g} of the training pairs are {low:g} and "
            f"{high:g}, which is no range; choose others, or set {side}.range"
        )
    return low, high


def with_ranges(recipe: Recipe, data: Data, found: Mapping[str, ValueRange]) -> tuple[Recipe, Data]:
    """The recipe and its data with the ranges that were found, in place of the percentiles."""
    if not found:
        return recipe, data
    sections = {
        side: getattr(recipe, side).model_copy(update={"range": values, "percentiles": None})
        for side, values in found.items()
    }
    ranges = {"source": data.source, "target": data.target, **found}
    return replace(recipe, **sections), replace(data, source=ranges["source"], target=ranges["target"])
