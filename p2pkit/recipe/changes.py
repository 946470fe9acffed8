"""What a run that is resumed may change: nothing that its networks or its data are made of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from p2pkit.components.type_words import written
from p2pkit.errors import RecipeError
from p2pkit.recipe.document import Overrides, flattened
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.resolve import read_recipe
from p2pkit.utils.opening import parsed_toml

_OPTIONS = "lr|betas|eps|momentum|weight_decay"
CHANGEABLE = re.compile(
    r"train\.(epochs|max_steps|max_time|accumulate|checkpoint_every|keep_checkpoints|sample_every|log_every"
    r"|collective_timeout|compile|cuda_graphs|deterministic)"
    rf"|optimizer(\.\w+)?\.({_OPTIONS}|clip_gradient_norm)"
    r"|schedule\.\w+|losses\.\d+\.weight|loader\.(workers|cache|bad_data|timeout)|run\.trackers"
    r"|validation\.(every|patience|baseline|max_images)"
)
"""The dotted keys."""
IN_WORDS = (
    "limits, accumulation, logging, compile, cuda_graphs and deterministic in [train], the optimizers' options, "
    "[schedule], weights of losses, workers, cache, bad_data and timeout in [loader], run.trackers, and every, "
    "patience, baseline and max_images in [validation]"
)


class Changes(NamedTuple):
    """A run's recipe as changed, and the keys that differ: what they were, and what they are now."""

    recipe: Recipe
    keys: dict[str, tuple[Any, Any]]

    @property
    def optimizer_options(self) -> set[str]:
        """The options of optimizers that are changed, by their names."""
        return {key.rpartition(".")[2] for key in self.keys if re.fullmatch(rf"optimizer\..*({_OPTIONS})", key)}


def changed(run: str, begun: Recipe, overrides: Overrides) -> Changes:
    """The recipe that a run in the folder ``run`` has begun with, with ``overrides`` on top.

    Raises:
        RecipeError: the result is not valid, or other keys change than a run that is resumed may change.
    """
    recipe = read_recipe(begun.document.file, overrides)
    there, here = flattened(begun.tables()), flattened(recipe.tables())
    # what a network's optimizer does not say is as [optimizer] has it
    shared = {key: re.sub(r"^optimizer\.\w+\.", "optimizer.", key) for key in here}
    before = {key: there.get(key, there.get(shared.get(key, ""))) for key in {**there, **here}}
    keys = {key: (value, here.get(key)) for key, value in before.items() if value != here.get(key)}
    kept = [key for key in keys if not CHANGEABLE.fullmatch(key)]
    if kept:
        raise RecipeError(
            f"{', '.join(kept)}: a run that is resumed keeps its networks and data; what may change: {IN_WORDS}. "
            f"Start a new run with its weights instead: --set {shlex.quote(f'train.init_from={written(run)}')}"
        )
    return Changes(recipe, keys)


def edited(before: str, now: str) -> dict[str, tuple[Any, Any]]:
    """The keys in which the texts of two resolved recipes differ, as :func:`unequal`. Raises as parsed_toml."""
    return unequal(parsed_toml(before), parsed_toml(now))


def unequal(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which the tables of two recipes differ: what they were, and what they are now, or None."""
    there, here = flattened(before), flattened(now)
    return {key: (there.get(key), here.get(key)) for key in {**there, **here} if there.get(key) != here.get(key)}
