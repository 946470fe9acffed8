"""A picture of pairs as training sees them: resized, augmented, cropped and flipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from p2pkit.build import build_without_weights, load_data
from p2pkit.data.loader import Example, Examples
from p2pkit.errors import WriteError
from p2pkit.recipe.document import Overrides
from p2pkit.recipe.resolve import read_recipe
from p2pkit.training.parts import TrainingParts
from p2pkit.training.sample_grids import Row, pictures, write_grid

ROWS = 8
EPOCHS = ("", ", next epoch")
"""What is said of the columns of the first epoch, and of those of the second."""


def contact_sheet(
    recipe: Path | str | Mapping[str, Any], file: Path, overrides: Overrides = (), samples: int = ROWS
) -> None:
    """Write a picture of ``samples`` pairs of a recipe's train set, evenly spread, as the networks see them.

    Each row has source and target (of "lab_ab" the photo that it gives), a mask if there is one, and the same in
    another epoch where that differs. ``overrides`` are as in :func:`p2pkit.train`.

    Raises:
        RecipeError: the recipe is missing or invalid.
        DataError: the data is missing, or no pair can be used.
        WriteError: the disk is full, writing is not allowed, or ``file`` does not end in .png.
    """
    refuse_other_endings(file)
    resolved = read_recipe(recipe, overrides)
    write_contact_sheet(build_without_weights(resolved, load_data(resolved)), file, samples)


def refuse_other_endings(file: Path) -> None:
    """Raise WriteError where ``file`` is not called as a PNG, which a sheet always is."""
    if file.suffix.lower() != ".png":
        raise WriteError(f"{file}: a contact sheet is a PNG image; give it a name that ends in .png")


def write_contact_sheet(parts: TrainingParts, file: Path, samples: int = ROWS) -> None:
    """What :func:`contact_sheet` does, of what a run is made of; pairs that cannot be used are passed over.

    Raises:
        DataError: no pair can be used.
        WriteError: the disk is full, or writing is not allowed.
    """
    lenient = parts.loader.model_copy(update={"bad_data": "skip"})
    examples, count = Examples(parts.train_set, parts.spec, parts.augmentation, lenient), min(samples, _count(parts))
    seen = []
    for place in range(count):
        number = place * _count(parts) // count * parts.augmentation.settings.crops_per_image
        seen.append([_example(examples, epoch, number) for epoch in range(len(EPOCHS))])
    same = all(_equal(*of_pair) for of_pair in seen)
    rows = [_row(parts, of_pair[: 1 if same else 2]) for of_pair in seen]
    title = f"{parts.run.name}: {count} of {_count(parts)} pairs to train on, as the networks see them"
    write_grid(file, title, rows)


def _count(parts: TrainingParts) -> int:
    return len(parts.train_set)


def _example(examples: Examples, epoch: int, number: int) -> Example:
    found = examples[epoch, number]
    if not isinstance(found, Example):
        raise found
    return found


def _equal(one: Example, other: Example) -> bool:
    pairs = zip(one.tensors, other.tensors, strict=True)
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def _row(parts: TrainingParts, seen: list[Example]) -> Row:
    images = []
    for (tensors, _, _), said in zip(seen, EPOCHS, strict=False):
        neighbours = (parts.train_set.planes or {}).get("neighbours", 0)
        target = parts.validation.picture(tensors.source[None], tensors.target[None])[0]
        shown = [*pictures(tensors.source, parts.sources, neighbours), ("target", target)]
        if tensors.mask is not None:
            shown.append(("mask", tensors.mask * 2 - 1))
        images += [(name + said, image) for name, image in shown]
    return Row(seen[0].key, [image for _, image in images], [name for name, _ in images])
