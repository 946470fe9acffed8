"""The samples of a recipe's data through a model: one output a sample, called by the sample's key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePath
from threading import Lock
from typing import Any

from p2pkit.contracts import Split
from p2pkit.data.samples import Samples
from p2pkit.errors import DataError
from p2pkit.evaluations import chosen_set, data_for
from p2pkit.images.formats import installed
from p2pkit.images.names import ending, without_ending
from p2pkit.inference.files import FileOptions, Report, translate_sources
from p2pkit.inference.sources import Source
from p2pkit.inference.translator import Translator
from p2pkit.utils.progress import Progress, print_line


def translate_data(
    translator: Translator,
    out: Path | str,
    data: Path | str | Mapping[str, Any] | None = None,
    split: Split | None = None,
    options: FileOptions | None = None,
) -> Report:
    """Translate the samples of a set into the folder ``out``, each to a file that is called by its key.

    Args:
        translator: the model.
        out: the folder of the outputs.
        data: a recipe (a file, PLUGIN:RECIPE or tables) whose data is taken; unless given, that of the model's own.
        split: "train", "val" or "test"; unless given, test, or val where there is no test set.
        options: as for files; how sources are stored is known to the data set.

    Raises:
        P2PKitError: the data cannot be used, as for :func:`p2pkit.evaluate`, or ``out`` is not a folder.
    """
    chosen, folder, report = options or FileOptions(), Path(out), Report()
    if chosen.stored_as is not None:
        raise DataError(f'stored_as = "{chosen.stored_as}": a data set says itself what its sources are; leave it out')
    if not folder.is_dir() and installed().is_image(folder.name):
        raise DataError(f"--out {out}: this is the name of one image, and there may be several; give a folder")
    if data is None and not translator.header.recipe:
        raise DataError("the model file holds no recipe, so its data is not known; give one, as in --data recipe.toml")
    if isinstance(data, str | Path) and Path(data).is_dir():
        raise DataError(f"--data {data}: a folder; give a recipe, or the folder itself as an input")
    recipe, loaded = data_for(translator.header, data, metrics=[], sides=("source",))
    samples = chosen_set(loaded, split)
    for notice in dict.fromkeys([*loaded.set_notices, *samples.notices]):
        print_line(f"NOTICE: {notice}")
    if translator.header.planes is not None:
        print_line("NOTICE: samples are planes, each an image of its own; give the volumes as INPUT to have volumes")
    return translate_sources(translator, _sources(samples, recipe.data.name, report), folder, chosen, report)


def _sources(samples: Samples, name: str, report: Report) -> list[Source]:
    """The sources of a set; what cannot be read is in ``report``."""
    sources, lock, known_as = [], Lock(), f"{name} {samples.fingerprint()}"

    def read(index: int) -> Any:
        with lock:  # data sets may draw from the global random states, which are set for each sample
            return samples[index].source

    with Progress("looking at keys", len(samples), "sample") as progress:
        for index in range(len(samples)):
            try:
                key = (samples.header(index) if hasattr(samples, "header") else samples[index]).key
                place, own_ending = _place(key)
            except DataError as error:
                report.failures.append(str(error))
            else:
                about = {"data": known_as, "key": key}
                sources.append(Source(key, place, own_ending, partial(read, index), known_as=about))
            progress.advance()
    return sources


def _place(key: str) -> tuple[Path, str]:
    """Where below a folder the output of a sample goes, without the ending, and the ending of its key.

    Parts that would lead out of the folder are left out. Raises DataError where nothing is left.
    """
    path = PurePath(key)
    parts = [part for part in path.parts if part not in ("..", path.anchor)]
    if not parts or "\0" in key:
        raise DataError(f"the key {key!r} of a sample: no file can be called so")
    name = Path(*parts)
    # what follows the last dot of a key may be a part of it
    return (without_ending(name), ending(name)) if installed().is_image(name.name) else (name, "")
