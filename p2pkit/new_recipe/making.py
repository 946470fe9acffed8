"""From a folder of images to a recipe: what it holds, what is decided for it, and the text."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pkit.build import build_without_weights, load_data
from p2pkit.data.splitting import FEWEST as FEWEST_TO_SPLIT
from p2pkit.errors import NOT_UTF_8, DataError, RecipeError
from p2pkit.images.discovery import RUN_FILES, discover
from p2pkit.new_recipe.decide import Choice, Machine, as_bytes, decide
from p2pkit.new_recipe.layout import Layout, find_layout
from p2pkit.new_recipe.look import Look, look_at
from p2pkit.new_recipe.text import recipe_text
from p2pkit.recipe.document import Overrides
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.resolve import read_recipe
from p2pkit.training.prepare import networks_of
from p2pkit.utils.progress import print_line

SHARES = (0.1, 0.2, 0.3)
"""Of the train set, for a val set: the first by which there is one, since the names of pairs decide."""
SKIPPING = {"loader": {"bad_data": "skip"}}
"""So a folder is looked at: what cannot be used is counted."""
STATE = 16
"""Bytes of memory that training takes for each parameter: in float32, its gradient and Adam's two means."""


@dataclass(frozen=True)
class NewRecipe:
    """A recipe that was made for a folder, and what there is to say of it."""

    name: str
    text: str
    """Commented TOML, as it stands in a file."""
    facts: Sequence[tuple[str, str]]
    """What was found, by name."""
    notices: Sequence[str]
    """What may not be as it is meant."""
    choices: Sequence[Choice]

    def recipe(self, overrides: Overrides = ()) -> Recipe:
        """The recipe, with ``overrides`` on top.

        Raises:
            RecipeError: an override is not valid.
        """
        recipe = read_recipe(tomllib.loads(self.text), overrides)
        recipe.document.text = self.text
        return recipe

    def write_pairs(self, file: Path) -> None:
        """Write a grid of source | target of six training pairs, as PNG.

        Raises:
            WriteError: the disk is full, or writing is not allowed.
        """
        from p2pkit.new_recipe.grid import write_pairs

        recipe = self.recipe()
        write_pairs(file, recipe, load_data(recipe))


def recipe_for(folder: Path | str, machine: Machine | None = None) -> NewRecipe:
    """A recipe for the image pairs in ``folder`` that this machine, or another one, trains in reasonable time.

    Raises:
        RecipeError: it is a run folder, or one of runs.
        DataError: it is missing, holds no images, volumes, or images that do not pair, or none that can be read.
    """
    folder = Path(folder)
    if set(str(folder.absolute())) & NOT_UTF_8:
        raise RecipeError(f"{folder}: its path is not in UTF-8, as recipes and model files are; rename the folder")
    _refuse_runs(folder)
    layout, machine = find_layout(folder), machine or Machine.this()
    name = re.sub(r"[/\\]", "_", folder.resolve().name) or "images"
    table = {"name": layout.data["name"], "root": str(layout.root.resolve()), **layout.data}
    data = load_data({"data": {**table, "split": 0}, **SKIPPING}, refuse_problems=False)
    look = look_at(data)
    choices = [
        Choice("run", "name", name, ""),
        *(Choice("data", key, value, _why(key, layout)) for key, value in table.items()),
        *(Choice("data", "", None, note, True) for note in layout.notes),
        *decide(look, machine, _share(table, look)),
    ]
    choices.sort(key=lambda choice: ORDER.index(choice.section))
    facts = [
        ("pairs", f"{_counts(look.counts)}; {layout.found}"), ("source", look.source.shown),
        ("target", look.target.shown), ("direction", layout.direction), ("memory", _memory(choices, look)),
    ]  # fmt: skip
    heading = [": ".join(fact) for fact in facts if fact[0] != "direction"]  # which stands where it is changed
    heading.insert(0, "Made by p2pkit init, for this machine; p2pkit check says whether it holds after a change.")
    notices = [*data.train.notices, *data.set_notices, *([] if layout.told else [layout.direction])]
    notices += [choice.why for choice in choices if choice.doubtful] + list(data.problems)
    return NewRecipe(name, recipe_text(heading, choices), facts, list(dict.fromkeys(notices)), choices)


def recipe_of_folder(folder: Path | str, overrides: Overrides = ()) -> Recipe:
    """The recipe of :func:`recipe_for`, with ``overrides`` on top; what may not be as it is meant is printed."""
    made = recipe_for(folder)
    for notice in made.notices:
        print_line(f"NOTICE: {notice}")
    return made.recipe(overrides)


ORDER = (
    "run", "data", "source", "target", "loader", "transform", "encoding", "generator", "discriminator", "optimizer",
    "schedule", "train", "validation",
)  # fmt: skip
"""The sections, as the text has them."""


def _why(key: str, layout: Layout) -> str:
    return {
        "name": layout.found,
        "root": "a relative path would be relative to where p2pkit is run",
        "source": layout.direction,
        "direction": layout.direction,
    }.get(key, "")


def _counts(counts: Mapping[str, int]) -> str:
    found = [f"{count} {split}" for split, count in counts.items() if count]
    return f"{' and '.join(found)} pair{'s' * (sum(counts.values()) != 1)}"


def _share(table: Mapping[str, Any], look: Look) -> float:
    """The share of the train set that becomes the val set; 0 for none."""
    if look.counts["val"] or look.counts["test"] or look.counts["train"] < FEWEST_TO_SPLIT:
        return 0.0
    for share in SHARES:
        with suppress(DataError):
            load_data({"data": {**table, "split": share}, **SKIPPING}, refuse_problems=False)
            return share
    return 0.0


def _memory(choices: Sequence[Choice], look: Look) -> str:
    """What the networks take, and the pairs, roughly."""
    tables: dict[str, dict[str, Any]] = {}
    for choice in choices:
        if choice.key:
            tables.setdefault(choice.section, {})[choice.key] = choice.value
    recipe = read_recipe(tables)
    parts = build_without_weights(recipe, load_data(recipe))
    count = sum(parameter.numel() for network in networks_of(parts) for parameter in network.parameters())
    kept = f", and pairs kept in memory {as_bytes(look.bytes)}" if recipe.loader.cache in ("memory", "device") else ""
    trained = as_bytes(STATE * count)
    return f"networks of {count / 1e6:.1f} M parameters take about {trained} as they are trained{kept}"


def _refuse_runs(folder: Path) -> None:
    """Raise RecipeError for a run folder, and for one that holds nothing but some: images there are samples."""
    runs = [folder] if _is_run(folder) else []
    try:
        if not runs:
            discover(folder)
            return
    except DataError:
        runs = sorted(file.parent for depth in ("*", "*/*") for file in folder.glob(f"{depth}/{RUN_FILES[0]}"))
        runs = [run for run in runs if _is_run(run)]
        if not runs:
            raise
    what, which = ("a folder of runs", "the last of them") if runs != [folder] else ("a run folder", "it")
    command = f"p2pkit run --resume {shlex.quote(str(runs[-1]))}"
    raise RecipeError(f"{folder}: this is {what}, not a folder of image pairs; {command} resumes {which}")


def _is_run(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RUN_FILES)
