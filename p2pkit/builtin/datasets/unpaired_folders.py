"""Sources and targets that do not correspond, in two folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Literal, Self

from p2pkit.contracts import NO_IMAGE, Sample, SampleHeader, Split
from p2pkit.data.discovery import DEFAULT_SIDES, fingerprint_of, key_of, side_folders
from p2pkit.errors import RecipeError
from p2pkit.images.discovery import discover
from p2pkit.images.names import ending
from p2pkit.images.reading import image_header, read_image


class UnpairedFolders:
    """A folder of sources and one of targets that do not correspond: unpaired data, for methods that need no pairs.

    For each split the folders are looked for as ``root/SPLIT/source``, then ``root/source/SPLIT``, then
    ``root/SPLITsource`` (trainA). SPLIT is train, val or test, or training, validation, valid, dev or testing, in any
    case. Without such folders, ``root/source`` and ``root/target`` are for training.

    Args:
        root: the folder of the data set.
        source: the name of the folder of sources, below ``root`` or below each split. Where neither it nor ``target``
            is set and there are no such folders, A is translated to B.
        target: the name of the folder of targets, likewise.
    """

    paired: Literal[False] = False

    def __init__(
        self, split: Split, root: Path, source: str = DEFAULT_SIDES[0], target: str = DEFAULT_SIDES[1]
    ) -> None:
        self._root = root
        self._least: Mapping[str, tuple[int, int]] = {}
        self.source_files: Sequence[Path] = []
        self.target_files: Sequence[Path] = []
        self.notices: list[str] = []
        if folders := side_folders(root, split, source, target):
            one, other = folders.folders
            if one.resolve() == other.resolve():
                raise RecipeError(f"{one}: sources and targets are one folder; set data.source and data.target")
            sources, targets = discover(one), discover(other)
            self.source_files, self.target_files = sources.files, targets.files
            self.notices = [*folders.notices, *sources.notices, *targets.notices]
            folders.refuse_splits_among(sources.files, targets.files)
        self.targets = len(self.target_files)
        self.target_ending = ending(self.target_files[0]) if self.target_files else ""

    def __len__(self) -> int:
        return len(self.source_files)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.source_files[index], self._least.get("source"))
        return Sample(image, None, self._key(self.source_files[index]))

    def target(self, index: int) -> Sample:
        """The target at ``index``."""
        image = read_image(self.target_files[index], self._least.get("target"))
        return Sample(None, image, self._key(self.target_files[index]))

    def reduced(self, sizes: Mapping[str, tuple[int, int]]) -> Self:
        """The same images, which may be read at reduced size (see contracts.PairedDataset)."""
        found = copy(self)
        found._least = sizes
        return found

    def header(self, index: int) -> SampleHeader:
        """The shape of the source at ``index``, from the header of its file."""
        return SampleHeader(image_header(self.source_files[index]), NO_IMAGE, self._key(self.source_files[index]))

    def target_header(self, index: int) -> SampleHeader:
        """The shape of the target at ``index``, likewise."""
        return SampleHeader(NO_IMAGE, image_header(self.target_files[index]), self._key(self.target_files[index]))

    def _key(self, file: Path) -> str:
        return key_of(file, self._root)

    def fingerprint(self) -> str:
        """A digest of the files, sources first."""
        return fingerprint_of(self._root, [*self.source_files, *self.target_files], str(len(self.source_files)))
