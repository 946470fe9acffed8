"""A data set's files: the folders of its splits, pairs of image files, fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from p2pkit.contracts import Sample, SampleHeader, Split
from p2pkit.errors import DataError
from p2pkit.images.reading import image_header, read_image


def split_folder(root: Path, split: Split) -> Path | None:
    """The folder of ``split`` below ``root``; None for a val or test set that is not there.

    Without any such folder all of ``root`` is for training.

    Raises:
        DataError: ``root`` is missing, or it has a val or test folder but no folder for training.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder (data.root)")
    if (root / split).is_dir():
        return root / split
    if split != "train":
        return None
    refuse_test_alone(root)
    return root


def refuse_test_alone(folder: Path) -> None:
    """Raise DataError when ``folder`` has a folder val or test, but no folder train: these must not be trained on."""
    for name in ("val", "test"):
        if (folder / name).is_dir():
            raise DataError(f"{folder}: it has a folder {name}, but no folder train")


class FilePairs:
    """A data set (contracts.PairedDataset) of (source, target) files below ``root``.

    A pair's key is the path of its source below ``sources``, which is ``root`` unless given.
    """

    called = "the two images of a pair"
    """What messages call the files of a pair."""

    def __init__(self, root: Path, pairs: Sequence[tuple[Path, Path]], sources: Path | None = None) -> None:
        self._root, self._pairs, self._sources = root, pairs, sources or root

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        source, target = self._pairs[index]
        pair = Sample(read_image(source), read_image(target), self._key(index))
        self._refuse_unequal(index, pair.header)
        return pair

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``, from the headers of its files."""
        source, target = self._pairs[index]
        header = SampleHeader(image_header(source), image_header(target), self._key(index))
        self._refuse_unequal(index, header)
        return header

    def _key(self, index: int) -> str:
        return str(self._pairs[index][0].relative_to(self._sources))

    def _refuse_unequal(self, index: int, header: SampleHeader) -> None:
        if header.source[:2] != header.target[:2]:
            files = zip(self._pairs[index], (header.source, header.target), strict=True)
            sizes = " and ".join(f"{file} is {shape[0]}x{shape[1]}" for file, shape in files)
            raise DataError(f"{self.called} differ in size (height x width): {sizes}")

    def fingerprint(self) -> str:
        """A digest of the files' names and sizes."""
        return fingerprint_of(self._root, [file for pair in self._pairs for file in pair])


def fingerprint_of(root: Path, files: Iterable[Path], *more: str) -> str:
    """A digest of the names (below ``root``) and sizes of ``files``, and of what ``more`` makes it another data set."""
    digest = hashlib.sha256(repr(more).encode())
    for file in files:
        digest.update(f"{file.relative_to(root)}\0{file.stat().st_size}\0".encode())
    return digest.hexdigest()[:16]
