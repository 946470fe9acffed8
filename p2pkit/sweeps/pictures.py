"""The page of pictures of a sweep: a column for each row of its table, between sources and targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from p2pkit.contracts import Split
from p2pkit.data.augmentation import Augmentation
from p2pkit.errors import P2PKitError, first_line
from p2pkit.evaluations import chosen_set, data_for
from p2pkit.inference.translator import load_model
from p2pkit.training.sample_grids import Row, pictures, write_grid
from p2pkit.utils.progress import Progress, print_line

SAMPLES = 6
"""So many of the set are shown, evenly spread."""


def write_page(
    file: Path, title: str, runs: Sequence[tuple[str, Path]], split: Split | None, device: str | None
) -> None:
    """Write what the models of ``runs``, (name, run folder), make of a few samples of a set.

    One whose samples are not those of the first is left out, and that is told.
    """
    columns, outer = list[tuple[str, list[Tensor]]](), list[Shown]()
    with Progress("pictures", len(runs), "row", brief=True) as progress:
        for name, folder in runs:
            try:
                shown = _shown(folder, split, device)
            except P2PKitError as error:
                print_line(f"NOTICE: {name} is not on the page of pictures: {first_line(error)}")
                continue
            outer = outer or shown
            if [each.key for each in shown] == [each.key for each in outer]:
                columns.append((name, [each.output for each in shown]))
            else:
                print_line(f"NOTICE: {name} is not on the page of pictures: its data has other samples")
            progress.advance()
    if not outer:
        return
    rows = []
    for place, each in enumerate(outer):
        named = [*each.sources, *((name, outputs[place]) for name, outputs in columns), ("target", each.target)]
        rows.append(Row(each.key, [image for _, image in named], [name for name, _ in named]))
    write_grid(file, title, rows)


class Shown:
    """A sample: its key, its sources by name, what a model makes of it, and its target, each [C, H, W]."""

    def __init__(self, key: str, sources: list[tuple[str, Tensor]], output: Tensor, target: Tensor) -> None:
        self.key, self.sources, self.output, self.target = key, sources, output, target


def _shown(folder: Path, split: Split | None, device: str | None) -> list[Shown]:
    translator = load_model(folder, device)
    recipe, data = data_for(translator.header, None, metrics=[])
    samples = chosen_set(data, split)
    sizes = Augmentation(recipe.transform, recipe.run.seed, translator.parts, scale=translator.header.scale)
    colours = translator.header.colours
    count, found = min(SAMPLES, len(samples)), []
    for place in range(count):
        sample = samples[place * len(samples) // count]
        tensors = sizes.test(data.spec.tensors(sample))
        sources = pictures(tensors.source, translator.parts, (samples.planes or {}).get("neighbours", 0))
        source, pair = tensors.source[None], []
        for image in (translator.tensor(source), tensors.target[None]):
            pair.append((image if colours is None else colours.picture(source, image))[0])
        found.append(Shown(sample.key, sources, *pair))
    return found
