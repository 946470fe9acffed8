"""Pairs from two folders, matched by file name without its ending, by patterns, or by a list; and of more folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from p2pkit.contracts import Split
from p2pkit.data.discovery import DEFAULT_SIDES, FilePairs, refuse_missing, side_folders
from p2pkit.data.pair_lists import listed_pairs
from p2pkit.data.pairing import STEM, Pairs, Pattern, Side, match_sides
from p2pkit.errors import RecipeError, counted
from p2pkit.images.discovery import Found, discover
from p2pkit.images.names import ending


class PairedFolders(FilePairs):
    """A folder of sources and one of targets; files of one stem are a pair, whatever their endings.

    For each split the folders are looked for as ``root/SPLIT/source``, then ``root/source/SPLIT``, then
    ``root/SPLITsource`` (trainA). SPLIT is train, val or test, or training, validation, valid, dev or testing, in any
    case. Without such folders, ``root/source`` and ``root/target`` hold training pairs only, wherever they are.

    Args:
        root: the folder of the data set.
        source: the name of the folder of sources, below ``root`` or below each split, or a list of several, which are
            sources of these names. Where neither it nor ``target`` is set and there are no such folders, A is
            translated to B.
        target: the name of the folder of targets, likewise; both may be one folder where there are patterns. Targets
            are of their sources' size or of a whole multiple of it.
        mask: the name of the folder of masks, likewise: how much each pixel of a target counts.
        source_pattern: how names of sources hold the stem of their pair: "{stem}_leftImg8bit", or "{group}_{stem}"; of
            several sources a list too, if they differ.
        target_pattern: the same of targets.
        mask_pattern: the same of masks.
        list: a CSV or TSV file below ``root`` that lists the pairs in place of all this: columns source (or
            source.NAME for each of several) and target, and perhaps split, group and mask.
    """

    def __init__(
        self, split: Split, root: Path, source: str | list[str] = DEFAULT_SIDES[0], target: str = DEFAULT_SIDES[1],
        source_pattern: str | list[str] = STEM, target_pattern: str = STEM, list: str | None = None,  # noqa: A002
        mask: str | None = None, mask_pattern: str = STEM,
    ) -> None:  # fmt: skip
        refuse_missing(root)
        patterns = source_pattern, target_pattern, mask_pattern
        if list is None:
            found = pairs_in_folders(root, split, (source, target, mask), patterns)
        elif (source, target, mask, *patterns) == (*DEFAULT_SIDES, None, STEM, STEM, STEM):
            found = listed_pairs(root, list, split)
        else:
            raise RecipeError("data.list names the pairs: leave source, target and their patterns out")
        super().__init__(root, found.files, groups=found.groups, names=found.names, masked=found.masked)
        self.notices += found.notices
        self.problems += found.problems
        targets = self.target_files
        self.target_ending = ending(targets[0]) if targets else ""


def pairs_in_folders(
    root: Path, split: Split, sides: tuple[str | list[str], str, str | None],
    patterns: tuple[str | list[str], str, str], gathered: Callable[[Found], Found] = lambda found: found,
) -> Pairs:  # fmt: skip
    """The pairs in the folders of ``sides`` (source, or several, target and mask), by their ``patterns``.

    ``gathered`` makes of the images of a folder what is to be paired.

    Raises:
        RecipeError: a pattern or a name of a source is not one, or two sides are the same files.
        DataError: a folder is missing or holds no images, it is in doubt what is a split, or no file matches a pattern.
    """
    source, target, mask = sides
    names = _names(source) if isinstance(source, list) else []
    sources, masks = [source] if isinstance(source, str) else source, [] if mask is None else [mask]
    of_sides = _patterns(patterns, names, len(sources))
    folders = side_folders(root, split, *sources, target, *masks)
    if folders is None:
        return Pairs([], names=names, masked=mask is not None)
    found = [discover(folder) for folder in folders.folders]
    folders.refuse_splits_among(*(each.files for each in found))
    found = [gathered(each) for each in found]
    if source == target and Path(target).is_absolute() and patterns == (STEM, STEM, STEM) and mask is None:
        # named in full, it is meant: to see what metrics say of images against themselves
        notice = f"{source}: sources and targets are one folder, so each image is its own target"
        pairs = Pairs([(file, file) for file in found[0].files], notices=[notice])
    else:
        called = [*([f"source {name}" for name in names] or ["source"]), "target", "mask"]
        pairs = match_sides([Side(*side) for side in zip(found, of_sides, called, strict=False)])
    # two of them may be one folder
    of_files = [notice for each in found for notice in each.notices]
    notices = dict.fromkeys([*folders.notices, *of_files, *pairs.notices])
    return pairs._replace(notices=[*notices], names=names, masked=mask is not None)


def _names(sources: Sequence[str]) -> list[str]:
    """What several sources are called: as the last folder of each.

    Raises:
        RecipeError: two are called alike, or one has no name, or a dot in it, which parts names in settings.
    """
    names = [Path(source).name for source in sources]
    if not names or not all(names) or any("." in name for name in names) or len(set(names)) < len(names):
        raise RecipeError(
            f"data.source: found {sources}, expected folders of different names without dots, which are those of the "
            "sources; a data.list may name them otherwise, in columns source.NAME"
        )
    return names


def _patterns(patterns: tuple[str | list[str], str, str], names: Sequence[str], count: int) -> list[Pattern]:
    """The pattern of each source, of targets and of masks.

    Raises:
        RecipeError: there are more or fewer than sources, or one is not a pattern.
    """
    source, target, mask = patterns
    if isinstance(source, list) and len(source) != count:
        wrong = f"data.source_pattern: found {len(source)} patterns for {counted(count, 'source')}"
        raise RecipeError(f"{wrong}; give one for each, or one text for all")
    of_sources = source if isinstance(source, list) else [source] * count
    keys = [f"data.source_pattern of {name}" for name in names] or ["data.source_pattern"]
    found = [Pattern(*each) for each in zip(of_sources, keys, strict=True)]
    return [*found, Pattern(target, "data.target_pattern"), Pattern(mask, "data.mask_pattern")]
