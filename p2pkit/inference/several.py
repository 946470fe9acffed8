"""Several sources that go together, each from a file of its own: matched by their names, translated as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pkit.errors import DataError, listed
from p2pkit.images.names import without_ending
from p2pkit.images.regions import Regions
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.odd_sources import Pixels
from p2pkit.inference.sources import Source, files_of, regions_together
from p2pkit.utils.progress import print_line

SHOWN = 5


@dataclass(frozen=True)
class SeveralSources(Source):
    """Sources of one size, by name, that are translated together; it is called and placed as the first of them is."""

    each: Mapping[str, Source] = field(default_factory=dict)

    def pixels(self) -> Pixels:
        """The pixels [H, W, C] of each source. Raises DataError where one cannot be read."""
        return {name: source.read() for name, source in self.each.items()}

    def regions(self) -> Regions:
        """The same, to be read part by part."""
        return regions_together({name: source.regions() for name, source in self.each.items()}, self.name)

    def identity(self) -> Mapping[str, Any]:
        """What records know them by."""
        return {name: source.identity() for name, source in self.each.items()}

    @property
    def files(self) -> Sequence[Path]:
        """The files of all of them."""
        return [file for source in self.each.values() for file in source.files]


def several_sources(
    header: ModelHeader, inputs: Mapping[str, Path] | Sequence[Path], failures: list[str],
    found_in: Callable[[Path], Iterator[tuple[Path, Path]]] = files_of,
) -> list[SeveralSources]:  # fmt: skip
    """The sources in the file or the folder of each name; files belong together that are called alike in their folders.

    In place of a file or a folder for each name there may be one folder that holds a folder for each. What lacks a
    partner is put to ``failures``. ``found_in`` gives the files in an input, and where their outputs go.

    Raises:
        DataError: an input is missing, a name is not one of the model's sources, or no files belong together.
    """
    names = [source.name for source in header.sources]
    given = inputs if isinstance(inputs, Mapping) else _folder_of_each(names, inputs)
    if given.keys() != set(names):
        taken, found = ", ".join(names), ", ".join(given) or "files without a source's name"
        raise DataError(f"this model takes several sources: {taken}; given are {found}. {_how(names)}")
    files, twice = {name: dict[Path, Path]() for name in names}, dict[Path, str]()
    found_for = {name: list(found_in(path)) for name, path in given.items()}
    one_each = all([file for file, _ in found_for[name]] == [path] for name, path in given.items())
    for name, those in found_for.items():
        for file, place in those:
            # single files belong together whatever they are called
            known = files[name].setdefault(without_ending(Path(given[names[0]].name)) if one_each else place, file)
            if known != file:
                twice[place] = f"{place}: {known} and {file} are called alike in the folder of one source"
    failures += twice.values()
    sources, lonely = list[SeveralSources](), dict[Path, list[str]]()
    for place in dict.fromkeys(place for found in files.values() for place in found if place not in twice):
        if lacking := [name for name, found in files.items() if place not in found]:
            lonely[place] = lacking
            continue
        each = {name: Source.of_file(files[name][place], place) for name in names}
        first = each[names[0]]
        sources.append(SeveralSources(first.name, place, first.ending, first.read, None, each=each))
    for place, lacking in lonely.items():
        failures.append(f"{place}: there is no file of that name for {', '.join(lacking)}, so it is not translated")
    if not sources:
        found = ", ".join(f"{len(each)} of {name}" for name, each in files.items())
        few = listed([str(place) for place in lonely], SHOWN)
        raise DataError(f"no files are called alike in the folders of all sources (there are {found}):{few}")
    return sources


def _folder_of_each(names: Sequence[str], inputs: Sequence[Path]) -> Mapping[str, Path]:
    """The folder of each name in a single folder; nothing where that is not what is given."""
    if len(inputs) != 1 or not all((inputs[0] / name).is_dir() for name in names):
        return {}
    print_line(f"NOTICE: sources are taken from the folders {', '.join(names)} in {inputs[0]}")
    return {name: inputs[0] / name for name in names}


def _how(names: Sequence[str]) -> str:
    each = " ".join(f"--source {name}=PATH" for name in names)
    return f"Give a file or a folder for each: {each}; or one folder that holds a folder for each"
