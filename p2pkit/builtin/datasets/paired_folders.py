"""Pairs from two folders, matched by file name without its ending, by patterns, or by a list."""

from __future__ import annotations

from pathlib import Path

from p2pkit.contracts import Split
from p2pkit.data.discovery import DEFAULT_SIDES, FilePairs, refuse_missing, side_folders
from p2pkit.data.pair_lists import listed_pairs
from p2pkit.data.pairing import STEM, Pairs, match
from p2pkit.errors import RecipeError
from p2pkit.images.discovery import discover
from p2pkit.images.names import ending


class PairedFolders(FilePairs):
    """A folder of sources and one of targets; files of one stem are a pair, whatever their endings.

    For each split the folders are looked for as ``root/SPLIT/source``, then ``root/source/SPLIT``, then
    ``root/SPLITsource`` (trainA). SPLIT is train, val or test, or training, validation, valid, dev or testing, in any
    case. Without such folders, ``root/source`` and ``root/target`` hold training pairs only, wherever they are.

    Args:
        root: the folder of the data set.
        source: the name of the folder of sources, below ``root`` or below each split. Where neither it nor ``target``
            is set and there are no such folders, A is translated to B.
        target: the name of the folder of targets, likewise; both may be one folder where there are patterns.
        source_pattern: how names of sources hold the stem of their pair: "{stem}_leftImg8bit", or "{group}_{stem}".
        target_pattern: the same of targets.
        list: a CSV or TSV file below ``root`` that lists the pairs in place of all this: columns source and target, and
            perhaps split, group and mask.
    """

    def __init__(
        self, split: Split, root: Path, source: str = DEFAULT_SIDES[0], target: str = DEFAULT_SIDES[1],
        source_pattern: str = STEM, target_pattern: str = STEM, list: str | None = None,  # noqa: A002
    ) -> None:  # fmt: skip
        refuse_missing(root)
        if list is None:
            found = _in_folders(root, split, source, target, (source_pattern, target_pattern))
        elif (source, target, source_pattern, target_pattern) == (*DEFAULT_SIDES, STEM, STEM):
            found = listed_pairs(root, list, split)
        else:
            raise RecipeError("data.list names the pairs: leave source, target and their patterns out")
        super().__init__(root, found.files, groups=found.groups)
        self.notices += found.notices
        self.problems += found.problems
        self.target_ending = ending(found.files[0][1]) if found.files else ""


def _in_folders(root: Path, split: Split, source: str, target: str, patterns: tuple[str, str]) -> Pairs:
    folders = side_folders(root, split, source, target)
    if folders is None:
        return Pairs([])
    sources, targets = discover(folders.sources), discover(folders.targets)
    folders.refuse_splits_among(sources.files, targets.files)
    if source == target and Path(source).is_absolute() and patterns == (STEM, STEM):
        # named in full, it is meant: to see what metrics say of images against themselves
        notice = f"{source}: sources and targets are one folder, so each image is its own target"
        found = Pairs([(file, file) for file in sources.files], notices=[notice])
    else:
        found = match(sources, targets, *patterns)
    # the two may be one folder
    notices = dict.fromkeys([*folders.notices, *sources.notices, *targets.notices, *found.notices])
    return found._replace(notices=[*notices])
