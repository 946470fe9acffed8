"""The ranges of values that a recipe asks to be found in its training pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from p2pkit.contracts import ValueRange
from p2pkit.data.value_ranges import Percentiles
from p2pkit.errors import DataError
from p2pkit.images.pixels import refuse_not_finite
from p2pkit.recipe.assemble import Data
from p2pkit.recipe.data_rules import Place, go_through, places
from p2pkit.recipe.recipe import Recipe


def wanted_percentiles(recipe: Recipe) -> dict[str, tuple[float, float]]:
    """The percentiles of each side whose recipe section gives them."""
    sections = {"source": recipe.source, "target": recipe.target}
    return {side: section.percentiles for side, section in sections.items() if section.percentiles}


def found_ranges(recipe: Recipe, data: Data) -> dict[str, ValueRange]:
    """The range of each side whose recipe section gives ``percentiles``, over all training pairs; they are read twice.

    Raises:
        DataError: a pair cannot be read and the policy is to stop, none can, or all values of a side are the same.
    """
    wanted = wanted_percentiles(recipe)
    searches = {side: Percentiles(percentiles) for side, percentiles in wanted.items()}
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


def with_ranges(data: Data, found: Mapping[str, ValueRange]) -> Data:
    """The data with the range of each side that is in ``found``."""
    if not found:  # what the data has looked up already stays so
        return data
    return replace(data, source=found.get("source", data.source), target=found.get("target", data.target))
