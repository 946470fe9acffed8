"""Pairs whose two halves stand side by side in one image, as in the archives of pix2pix."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Self

from p2pkit.contracts import Direction, Sample, SampleHeader, Split
from p2pkit.data.discovery import (
    beside_splits,
    fingerprint_of,
    key_of,
    least_of_both,
    refuse_splits_among,
    split_folder,
)
from p2pkit.images.discovery import discover
from p2pkit.images.names import ending
from p2pkit.images.reading import image_header, middle_of, read_image

JPEG_BLOCK = 32
"""The most columns that a JPEG encodes together: colours at a quarter of the width (4:1:1), in blocks of 8."""


class SideBySide:
    """Images A|B, the left half A and the right half B, in the folders ``train``, ``val`` and ``test`` of ``root``.

    They may also be called training, validation, valid, dev and testing, in any case. A ``root`` without these folders
    holds training pairs only.

    Args:
        root: the folder of the data set.
        direction: "AtoB" translates left to right, "BtoA" right to left.
    """

    def __init__(self, split: Split, root: Path, direction: Direction = "AtoB") -> None:
        self._root, self._direction = root, direction
        self._least: tuple[int, int] | None = None
        self.source_files: list[Path] = []
        """None of them may be in two sets."""
        self.notices: list[str] = []
        if folder := split_folder(root, split):
            found = discover(folder)
            refuse_splits_among(folder, found.files, None if folder == root else split)
            self.source_files, self.notices = (
                found.files,
                [*found.notices, *(beside_splits(root) if split == "train" else ())],
            )
        self.target_ending = ending(self.source_files[0]) if self.source_files else ""
        self.stored_as = "left half" if direction == "AtoB" else "right half"

    def __len__(self) -> int:
        return len(self.source_files)

    def __getitem__(self, index: int) -> Sample:
        file = self.source_files[index]
        pixels = read_image(file, self._least_of(file))
        middle = middle_of(pixels.shape[1], str(file))
        left, right = pixels[:, :middle], pixels[:, middle:]
        source, target = (left, right) if self._direction == "AtoB" else (right, left)
        return Sample(source, target, self.key(index))

    def reduced(self, sizes: Mapping[str, tuple[int, int]]) -> Self:
        """The same pairs, with images that may be read at reduced size (see contracts.PairedDataset)."""
        found = copy(self)
        found._least = least_of_both(sizes)
        return found

    def _least_of(self, file: Path) -> tuple[int, int] | None:
        """How small the whole image may be; None where a block of a JPEG would be in both halves, and mix them."""
        if self._least is None or image_header(file)[1] % (2 * JPEG_BLOCK):
            return None
        return self._least[0], 2 * self._least[1]

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``, from the header of its file."""
        file = self.source_files[index]
        height, width, channels = image_header(file)
        half = (height, middle_of(width, str(file)), channels)
        return SampleHeader(half, half, self.key(index))

    def key(self, index: int) -> str:
        """The key of the pair at ``index``, without reading it."""
        return key_of(self.source_files[index], self._root)

    def fingerprint(self) -> str:
        """A digest of the files, and of the direction."""
        return fingerprint_of(self._root, self.source_files, self._direction)
