"""Translating files and folders: the tree is kept, what cannot be done is reported at the end, the rest is done."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from p2pkit.errors import DataError
from p2pkit.images import find_images, output_ending, read_image, without_ending, write_image
from p2pkit.progress import Progress
from p2pkit.translate.translator import Translator


def translate_files(
    translator: Translator, inputs: Sequence[Path], out: Path, samples: int, seed: int, image_format: str | None = None
) -> list[str]:
    """Translate image files, and all images below folders, into ``out``; the messages of those that failed.

    An output is called after its source, with the ending ``.FORMAT`` or, when that is None, one that goes with its
    source and holds its pixels; with several ``samples`` each has its number behind.

    Raises:
        DataError: an input is missing, or a folder holds no images.
        WriteError: the disk is full, or writing is not allowed.
    """
    work = [(file, place) for given in inputs for file, place in _outputs(given)]
    failures: list[str] = []
    taken: dict[Path, Path] = {}
    sources = {file.resolve() for file, _ in work}
    with Progress("translating", len(work), "image") as progress:
        for file, place in work:
            first = taken.setdefault(place, file)
            if first != file:
                failures.append(f"{file}: its output {place} is that of {first}; translate one of them elsewhere")
            else:
                ending = f".{image_format}" if image_format else _ending(translator, file)
                failures += _translate_file(translator, file, _results(out / place, ending, samples), sources, seed)
            progress.advance()
    return failures


def _outputs(given: Path) -> Iterator[tuple[Path, Path]]:
    """Each image of an input, with the path of its output without the ending."""
    if given.is_dir():
        for file in find_images(given):
            yield file, without_ending(file.relative_to(given))
    elif given.is_file():
        yield given, without_ending(Path(given.name))
    else:
        raise DataError(f"{given}: there is no such file or folder")


def _ending(translator: Translator, file: Path) -> str:
    header = translator.header
    return output_ending(file, np.dtype(header.target_dtype), header.target_channels)


def _results(place: Path, ending: str, samples: int) -> list[Path]:
    endings = [ending] if samples == 1 else [f"_{sample}{ending}" for sample in range(samples)]
    return [place.with_name(place.name + ending) for ending in endings]


def _translate_file(
    translator: Translator, file: Path, results: Sequence[Path], sources: Collection[Path], seed: int
) -> list[str]:
    try:
        for result in results:
            if result.resolve() in sources:
                raise DataError(f"{file}: its output would replace the source {result}; choose another --out")
        source = read_image(file)
        for sample, result in enumerate(results):
            write_image(result, translator.pixels(source, str(file), seed + sample), file)
    except DataError as error:
        return [str(error)]
    return []
