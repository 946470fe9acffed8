"""Every pair of a recipe's data set read as training reads it, and what is wrong with each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from p2pkit.contracts import PairedDataset
from p2pkit.engine.loader import unit_pair
from p2pkit.errors import DataError
from p2pkit.images.transforms import PairTransform
from p2pkit.inference import refuse_unfitting
from p2pkit.progress import Progress
from p2pkit.recipe.assemble import load_data
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.trial import networks_without_weights


def bad_pairs(recipe: Recipe) -> tuple[int, list[str]]:
    """How many pairs there are in both splits, and a message for each that cannot be used.

    Raises:
        DataError: the data is missing, or its first pair cannot be read, so that there is nothing to compare with.
    """
    data = load_data(recipe)
    transform = PairTransform(recipe.transform, recipe.run.seed)
    generator = networks_without_weights(recipe, data)["generator"]
    first_size = transform.train(unit_pair(data.first, data.first), 0, 0, data.first.key)[0].shape[1:]

    def fault(place: tuple[PairedDataset, int]) -> str | None:
        pairs, index = place
        try:
            pair = pairs[index]
            tensors = unit_pair(pair, data.first)
            if pairs is data.pairs:
                size = transform.train(tensors, 0, index, pair.key)[0].shape[1:]
                refuse_unfitting(generator, size, pair.key)
                if recipe.loader.batch_size > 1 and size != first_size:
                    raise DataError(f"{pair.key}: it differs in size from {data.first.key}, so no batch can hold both")
        except DataError as error:
            return str(error)
        return None

    places = [(pairs, index) for pairs in (data.pairs, data.held_out) for index in range(len(pairs))]
    faults: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, Progress("reading", len(places), "pair") as progress:
        for found in pool.map(fault, places):
            faults += [found] if found else []
            progress.advance()
    return len(places), faults
