"""A recipe's data without the rest of it, for plugins that work on data alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2pkit.recipe import assemble
from p2pkit.recipe.resolve import read_recipe


def load_data(recipe: Path, overrides: Sequence[str] = ()) -> assemble.Data:
    """Both splits of the data set of a recipe file; ``overrides`` are what ``--set`` takes (``"data.root=x"``).

    Raises:
        RecipeError: the recipe is missing or says what cannot be.
        DataError: the data is missing, there is no training pair, or the splits differ in channels.
    """
    return assemble.load_data(read_recipe(recipe, overrides))
