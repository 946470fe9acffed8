"""Pairs from two folders, matched by file name without its ending."""

from __future__ import annotations

from pathlib import Path

from p2pkit.contracts import Split
from p2pkit.data.discovery import FilePairs, refuse_test_alone
from p2pkit.errors import DataError, listed
from p2pkit.images.names import ending, without_ending
from p2pkit.images.reading import find_images

SHOWN = 5
"""How many of the files without a partner a message names."""


class PairedFolders(FilePairs):
    """A folder of sources and one of targets; files of one stem are a pair, whatever their endings.

    For each split the folders are looked for as ``root/SPLIT/source``, then ``root/source/SPLIT`` (SPLIT is train, val
    or test). Without such folders, ``root/source`` and ``root/target`` hold training pairs only.

    Args:
        root: the folder of the data set.
        source: the name of the folder of sources, below ``root`` or below each split.
        target: the name of the folder of targets, likewise.
    """

    def __init__(self, split: Split, root: Path, source: str = "source", target: str = "target") -> None:
        folders = side_folders(root, split, source, target)
        pairs = _matched(*folders) if folders else []
        super().__init__(root, pairs)
        self.target_ending = ending(pairs[0][1]) if pairs else ""


def side_folders(root: Path, split: Split, source: str, target: str) -> tuple[Path, Path] | None:
    """The folders of a split's sources and targets; None for a val or test set that is not there.

    Raises:
        DataError: ``root`` is missing, or has a val or test set but no train set.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder (data.root)")
    for sources, targets in (
        (root / split / source, root / split / target),
        (root / source / split, root / target / split),
    ):
        if sources.is_dir() or targets.is_dir():
            return sources, targets
    if split != "train":
        return None
    for folder in (root, root / source, root / target):
        refuse_test_alone(folder)
    return root / source, root / target


def _matched(sources: Path, targets: Path) -> list[tuple[Path, Path]]:
    """The pairs in two folders, by path below them without the ending."""
    source_files, target_files = _by_stem(sources), _by_stem(targets)
    lonely = _without_partner(source_files, target_files, targets) + _without_partner(
        target_files, source_files, sources
    )
    if lonely:
        raise DataError(
            "every source needs a target of the same name (endings may differ), and the other way round:"
            + listed(lonely, SHOWN)
        )
    return [(source_files[stem], target_files[stem]) for stem in sorted(source_files)]


def _without_partner(files: dict[str, Path], others: dict[str, Path], folder: Path) -> list[str]:
    return [f"{files[stem]} has no partner in {folder}" for stem in sorted(files.keys() - others.keys())]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in find_images(folder):
        stem = str(without_ending(file.relative_to(folder)))
        if stem in found:
            raise DataError(f"{found[stem]} and {file}: two images of one name; a pair needs just one on each side")
        found[stem] = file
    return found
