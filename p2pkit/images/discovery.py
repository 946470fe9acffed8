"""Which files of a folder count as its images, and what is left out, in counts: one search for data and translation."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from p2pkit.errors import DataError, counted
from p2pkit.images.formats import Formats, installed
from p2pkit.images.outputs import is_output, records_in

_SYSTEM_FOLDER = re.compile(
    r"[_@#$]*(thumb(nail)?s?|previews?|recycle(\.bin)?|recycler|snapshots?)|__macosx|@eadir|@tmp|lost\+found"
    r"|system volume information", re.IGNORECASE,
)  # fmt: skip
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
"""Files that systems keep for themselves, which are not worth a word; in lower case."""
HIDDEN_FOLDER, SYSTEM_FOLDER = "{} in hidden folders", "{} in folders of thumbnails or of the system"
RUN_FOLDER, RUN_FILES = "{} in run folders", ("recipe.toml", "environment.json")
HIDDEN, OTHER = "{} hidden", "{} of other kinds"
OUTPUT = "{} that p2pkit translate has written"
BROKEN, AGAIN = "{} whose links lead nowhere", "links to {} searched already"
IRREGULAR = "{} as FIFOs, sockets or devices"
REASONS = (HIDDEN_FOLDER, SYSTEM_FOLDER, RUN_FOLDER, HIDDEN, OUTPUT, OTHER, BROKEN, IRREGULAR, AGAIN)
_COUNTED: Mapping[str, tuple[str, str]] = {OTHER: ("file", "files"), AGAIN: ("folder", "folders")}
"""What is counted for a reason, where it is not images."""
SHOWN = 4
"""How many names a reason shows."""


class Found(NamedTuple):
    """The image files of a folder, and how many of what name were left out, by reason."""

    folder: Path
    files: list[Path]
    """In the order of their names."""
    skipped: Mapping[str, Counter[str]]
    only_outputs: bool = False
    """Whether all of them are what p2pkit translate has written, which is then meant."""

    @property
    def notices(self) -> list[str]:
        """What a data set says of its files: what was left out, and whether all that is there are translations."""
        count = len(self.files)
        outputs = f"{self.folder}: all {count} images are translations, as p2pkit translate has written them"
        return [*self.skipped_notices, *[outputs] * self.only_outputs]

    @property
    def skipped_notices(self) -> list[str]:
        """What was taken and what was left out, in one line; none where nothing was left out."""
        return [self._summary()] if self.skipped else []

    def _summary(self) -> str:
        count = len(self.files)
        return f"{self.folder}: {counted(count, 'image')} taken; left out: {self.reasons()}"

    def reasons(self) -> str:
        """What was left out, by reason, with some of the names."""
        return ", ".join(_reason(reason, self.skipped[reason]) for reason in REASONS if reason in self.skipped)

    def without(self, *reasons: str) -> Found:
        """The same with no word on what was left out for these reasons."""
        return self._replace(skipped={each: names for each, names in self.skipped.items() if each not in reasons})


def _reason(reason: str, names: Counter[str]) -> str:
    count, (one, several) = sum(names.values()), _COUNTED.get(reason, ("image", "images"))
    shown = sorted(names, key=lambda name: (-names[name], name))[:SHOWN] + ["..."] * (len(names) > SHOWN)
    return f"{reason.format(f'{count} {one if count == 1 else several}')} ({', '.join(shown)})"


def discover(folder: Path) -> Found:
    """The image files below ``folder``, in its subfolders and in those that links lead to.

    Left out are hidden files and folders (the folder itself may be hidden), folders of thumbnails or of the system, run
    folders, files of other endings, links that lead nowhere, and what p2pkit translate has written, unless there is
    nothing else. A folder that several paths lead to is searched once, by the path without links where there is one.

    Raises:
        DataError: the folder is missing, may not be read or holds no image.
        PluginError: two plugins offer a format for the ending of a file.
    """
    if not folder.is_dir():
        wrong = "this is a file, not a folder" if folder.exists() else "there is no such folder; check the path"
        raise DataError(f"{folder}: {wrong}")
    formats = installed()
    search = _Search(formats)
    real = folder.resolve()
    search.seen.update(real.parents)  # a link that leads back up would take in what lies beside the folder
    search.below(folder, real)
    while search.links:  # those within linked folders come last
        for link in sorted(search.links):
            search.links.remove(link)
            search.below(link, link.resolve())
    found = _without_outputs(Found(folder, sorted(search.files), search.skipped))
    if not found.files:
        looked_for = f"looked for {' '.join(formats.endings)}, in subfolders too"
        skipped = f"; left out: {found.reasons()}" if found.skipped else ""
        raise DataError(f"{folder}: the folder holds no images ({looked_for}){skipped}{formats.failed()}")
    return found


def _without_outputs(found: Found) -> Found:
    """The same without what p2pkit translate has written; with all of it where there is nothing else."""
    records, own, outputs = cache(records_in), list[Path](), Counter[str]()
    for file in found.files:
        if is_output(file, records(file.parent).get(file.name)):
            outputs[file.name] += 1
        else:
            own.append(file)
    if not own:
        return found._replace(only_outputs=bool(outputs))
    return found._replace(files=own, skipped={**found.skipped, OUTPUT: outputs}) if outputs else found


def is_system_folder(name: str) -> bool:
    """Whether a folder of that name holds previews, or what a system keeps for itself."""
    return _SYSTEM_FOLDER.fullmatch(name) is not None


@dataclass
class _Search:
    """What a search has found so far."""

    formats: Formats
    files: list[Path] = field(default_factory=list)
    skipped: dict[str, Counter[str]] = field(default_factory=dict)
    links: list[Path] = field(default_factory=list)
    """To folders, not yet followed."""
    seen: set[Path] = field(default_factory=set)
    """The real paths of the folders that were searched."""

    def below(self, folder: Path, real: Path) -> None:
        """Search ``folder``, whose path without links is ``real``."""
        waiting = [(folder, real)]
        while waiting:
            folder, real = waiting.pop()
            if real in self.seen:
                self._skip(AGAIN, folder.name)
                continue
            self.seen.add(real)
            for entry in _entries(folder):
                path = folder / entry.name
                if not entry.is_dir():
                    self._take(path, entry)
                elif entry.name.startswith("."):
                    self._skip(HIDDEN_FOLDER, entry.name, self._images_in(path))
                elif is_system_folder(entry.name):
                    self._skip(SYSTEM_FOLDER, entry.name, self._images_in(path))
                elif all((path / name).is_file() for name in RUN_FILES):
                    self._skip(RUN_FOLDER, entry.name, self._images_in(path))
                elif entry.is_symlink():
                    self.links.append(path)
                else:
                    waiting.append((path, real / entry.name))

    def _take(self, file: Path, entry: os.DirEntry[str]) -> None:
        """Take a file, or leave it out."""
        name = entry.name
        if name.lower() in _SYSTEM_FILES:
            return
        if not self.formats.is_image(name):
            if not name.startswith((".", "~$")) and entry.is_file():
                self._skip(OTHER, self.formats.ending(name) or "without an ending")
        elif name.startswith((".", "~$")):  # the second is how office programs lock a file
            self._skip(HIDDEN, name)
        elif entry.is_file():
            self.files.append(file)
        else:
            self._skip(IRREGULAR if file.exists() else BROKEN, name)

    def _skip(self, reason: str, name: str, count: int = 1) -> None:
        if count:
            self.skipped.setdefault(reason, Counter())[name] += count

    def _images_in(self, folder: Path) -> int:
        """How many images a folder that is left out holds; links are not followed."""
        return sum(self.formats.is_image(name) for _, _, names in os.walk(folder) for name in names)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except PermissionError as error:
        raise DataError(f"{folder}: reading this folder is not permitted; change its permissions") from error
