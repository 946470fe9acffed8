"""A picture of some training pairs, as the networks get them: to see that they are pairs, and which side is which."""

from __future__ import annotations

from pathlib import Path

from p2pkit.build import build_sources
from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.data.checks import unsettled
from p2pkit.data.found_values import find_values
from p2pkit.data.sets import Data
from p2pkit.recipe.recipe import Recipe
from p2pkit.training.sample_grids import Row, pictures, write_grid

ROWS = 6


def write_pairs(file: Path, recipe: Recipe, data: Data) -> None:
    """Write a grid of source | target of six training pairs, evenly spread, as PNG.

    Raises:
        DataError: none of them can be used.
        WriteError: the disk is full, or writing is not allowed.
    """
    data = data.with_ranges(find_values(data, sides).ranges) if (sides := unsettled(data)) else data
    parts, spec, count = build_sources(recipe, data), data.spec, min(ROWS, len(data.train))
    skipping, rows = SkipBadSamples(len(data.train), "skip"), list[Row]()

    def row_of(index: int) -> Row:
        sample = data.train[index]
        tensors = spec.tensors(sample)
        return Row(sample.key, [pictures(tensors.source, parts)[0][1], tensors.target], ("source", "target"))

    for place in range(count):
        rows.append(skipping.first_usable(place * len(data.train) // count, row_of)[0])
    write_grid(file, f"{recipe.run.name}: {count} of {len(data.train)} training pairs", rows)
