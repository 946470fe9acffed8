"""The images of a study as 8-bit RGB, as a screen shows them: outputs of runs, files of folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.errors import DataError
from p2pkit.images.discovery import discover
from p2pkit.images.names import without_image_ending
from p2pkit.images.pixels import normalize
from p2pkit.images.reading import read_image
from p2pkit.inference.in_memory import Ready, finished, ready
from p2pkit_web.describing import for_the_eye, range_of_outputs
from p2pkit_web.examples import OF_DATA

if TYPE_CHECKING:
    from p2pkit import Translator

Pixels = NDArray[np.uint8]


def files_in(folder: Path) -> dict[str, Path]:
    """The image files of a folder by their keys: their paths below it, without the endings, and see ``shortened``.

    Raises:
        DataError: it holds none, or two are called alike.
    """
    found = dict[str, Path]()
    for file in discover(folder).files:
        key = without_image_ending(file.relative_to(folder)).as_posix()
        if key in found:
            raise DataError(f"{folder}: {found[key].name} and {file.name} are both called {key!r}; leave one of them")
        found[key] = file
    return dict(zip(shortened(list(found)), found.values(), strict=True))


def shortened(keys: Sequence[str]) -> list[str]:
    """Keys without the folders that all of them are in: a run's are of test/, a folder's may not be."""
    found = list(keys)
    while len({key.partition("/")[0] for key in found}) == 1 and all("/" in key for key in found):
        found = [key.partition("/")[2] for key in found]
    return found


def keys_of(samples: Any) -> list[str]:
    """The keys of a set, without the endings of files."""
    read = samples.header if hasattr(samples, "header") else samples.__getitem__
    keys = [without_image_ending(Path(read(number).key)).as_posix() for number in range(len(samples))]
    return shortened(keys)


def of_file(file: Path) -> Pixels:
    """The pixels of a file, for the eye. Raises DataError where it is not an image."""
    return rgb(for_the_eye(read_image(file), None))


def test_set(translator: Translator) -> Any:
    """The test set that a model was trained beside, or the val set where there is none.

    Raises:
        P2PKitError: it has neither, or they cannot be had.
    """
    from p2pkit import load_data

    recipe = translator.header.recipe_tables()
    tables = {name: recipe[name] for name in OF_DATA if name in recipe}
    if "data" not in tables:
        raise DataError("the model does not say its data; translate images, and name their folder in its place")
    tables["loader"] = {**tables.get("loader", {}), "cache": "none"}
    data = load_data(tables, splits=("val", "test"))
    samples = data.test if len(data.test) else data.val
    if not len(samples):
        raise DataError("its data has no test or val set; translate images, and name their folder in its place")
    return samples


def through(translator: Translator, samples: Any) -> Iterator[tuple[Pixels, Pixels | None]]:
    """The outputs of the samples of a set, each with its real image where data is paired, in the range of targets."""
    header, size = translator.header, translator.chosen_size(None)
    for number in range(len(samples)):
        sample = samples[number]
        fake = translator.pixels(sample.source, sample.key, size=size)
        target = None
        if samples.targets is None:
            target = sample.target
            if header.colours is not None:  # colours alone: the lightness is the source's
                stored = ready(translator, sample.source, sample.key, "native").stored
                values = normalize(target, sample.key, header.colours.ab)
                target = finished(translator, Ready(stored, stored, "native"), values)
        shown = None if target is None else _of_targets(translator, target)
        yield _of_targets(translator, fake), shown


def real_ones(translator: Translator, samples: Any) -> Iterator[Pixels]:
    """The real images of a set that is not paired."""
    for number in range(len(samples.targets)):
        yield _of_targets(translator, samples.targets[number].target)


def _of_targets(translator: Translator, pixels: NDArray[Any]) -> Pixels:
    return rgb(for_the_eye(pixels, range_of_outputs(translator)))


def rgb(pixels: Pixels) -> Pixels:
    """Pixels [H, W, 1 or 3] with three channels."""
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
