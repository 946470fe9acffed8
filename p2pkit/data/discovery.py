"""A data set's files: the folders of its splits and of its sides, pairs of image files, keys, fingerprints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, Self
from unicodedata import normalize

from p2pkit.contracts import NO_IMAGE, Sample, SampleHeader, Split
from p2pkit.data.fingerprints import contents
from p2pkit.data.split_names import SIDES, SPLIT_AND_SIDE, like_another_split, of_one_side, split_of
from p2pkit.errors import DataError, MissingData, counted
from p2pkit.images.discovery import is_system_folder
from p2pkit.images.formats import installed
from p2pkit.images.reading import image_header, read_image
from p2pkit.utils.paths import in_other_form

DEFAULT_SIDES = ("source", "target")


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, linked ones too, without those that are hidden or of the system; by name."""
    if not folder.is_dir():
        return []
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] != "." and not is_system_folder(entry.name) and entry.is_dir():
                found.append(folder / entry.name)
    return sorted(found)


def split_folders(folder: Path) -> dict[Split, Path]:
    """The folders of splits in ``folder``: train, val and test in any case, and what else these are called.

    Raises:
        DataError: two of them are called like one split.
    """
    return _one_each(folder, ((split_of(path.name), path) for path in subfolders(folder)))


def split_folder(root: Path, split: Split) -> Path | None:
    """The folder of ``split`` below ``root``; None for a val or test set that is not there.

    Without any such folder all of ``root`` is for training; what is found there goes through
    :func:`refuse_splits_among`.

    Raises:
        DataError: ``root`` is missing, two folders are called like one split, or there is a val or test set but no
            train set.
    """
    refuse_missing(root)
    folders = split_folders(root)
    if split in folders:
        return folders[split]
    if split != "train":
        return None
    _refuse_no_train_set(root, folders)
    return root


def refuse_missing(root: Path) -> None:
    """Raise DataError when ``root``, a data set's, is not a folder; MissingData where there is nothing."""
    if root.is_dir():
        return
    if root.exists():
        raise DataError(f"{root}: this is a file, not a folder; check data.root")
    raise MissingData(f"{root}: there is no such folder; check data.root")


def refuse_splits_among(folder: Path, files: Iterable[Path], own: Split | None = None, of_sides: bool = False) -> None:
    """Raise DataError when one of the ``files`` is in a folder called like a split, at any depth below ``folder``.

    ``folder`` is that of the split ``own``, or holds all there is and is trained on: then it may be a level too high,
    and test images would be trained on. ``of_sides`` says that it is that of sources or of targets.
    """
    within: dict[Path, None] = {}
    for parent in dict.fromkeys(file.parent for file in files):
        within |= dict.fromkeys(path for path in (parent, *parent.parents) if path != folder and folder in path.parents)
    for path in sorted(within):
        named, side = split_of(path.name), of_one_side(path.name)
        if own is None and named:
            remedy = "move it up into that of its side" if of_sides else f'give data.root = "{path.parent}"'
            doubt = f"{path} is called like the {named} set of a data set"
        elif own is None and side:
            remedy = f'set data.root = "{path.parent}" and data.name = "paired_folders" or "unpaired_folders"'
            doubt = f"{path} is called like one side of the {side} set"
        else:
            continue
        raise DataError(f"{folder}: it has no folder train, but {doubt}; {remedy}, or rename the folder")
    if found := like_another_split(within, own or "train"):
        path, split = found
        if own is not None:
            raise DataError(
                f"{folder}: this is taken for the {own} set, but {path} is called like the {split} set; move that "
                "folder elsewhere, or rename it"
            )
        raise DataError(
            f"{folder}: it has no folder train, but {path} is called like the {split} set of a data set; rename the "
            f"folders of the sets to train, val and test, or give what is to be trained on as "
            f"{'data.source and data.target' if of_sides else 'data.root'}"
        )


def beside_splits(root: Path) -> list[str]:
    """A notice on what lies in ``root`` beside the folders of its splits, which nobody looks at; none without that."""
    folders = [path.name for path in subfolders(root) if not split_of(path.name)]
    images = sum(installed().is_image(path.name) for path in root.iterdir() if path.name[0] != "." and path.is_file())
    if not (folders or images) or not split_folders(root):
        return []
    others = [counted(images, "image")] if images else []
    others += [f"the folder{'s' * (len(folders) > 1)} {_some(folders)}"] if folders else []
    return [f"{root}: what is in the folders of its sets is taken; left out beside them: {', '.join(others)}"]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _one_each(folder: Path, candidates: Iterable[tuple[Split | None, Path]]) -> dict[Split, Path]:
    found: dict[Split, Path] = {}
    for split, path in candidates:
        if split is None:
            continue
        other = found.setdefault(split, path)
        if path.resolve() != other.resolve():
            both = f"the folders {other.name} and {path.name}"
            raise DataError(f"{folder}: {both} are both called like its {split} set; rename one of them")
        if path.name.startswith(split):
            found[split] = path
    return found


def _refuse_no_train_set(folder: Path, folders: Mapping[Split, Path]) -> None:
    if folders and "train" not in folders:
        split, path = next(iter(folders.items()))
        name = next((each.name for each in (path, *path.parents) if split_of(each.name)), path.name)
        raise DataError(
            f"{folder}: it has a folder {name}, but no folder train; images of the {split} set must not be trained on, "
            "so put the others into a folder called train"
        )


class SideFolders(NamedTuple):
    """The folders of a split's sources, targets and masks, and what is to be said of how they were found."""

    folders: tuple[Path, ...]
    """Of each source, of the targets, and of the masks where there are some."""
    notices: list[str]
    split: Split | None
    """Whose they are; None where they are all there is, and hold the train set."""

    def refuse_splits_among(self, *files: Iterable[Path]) -> None:
        """Raise DataError when these files of each are in a folder called like a split, or like another one."""
        for folder, those in zip(self.folders, files, strict=True):
            refuse_splits_among(folder, those, self.split, of_sides=True)


def side_folders(root: Path, split: Split, source: str, target: str, *more: str) -> SideFolders | None:
    """The folders of a split's sources and targets, and of ``more``; None for a val or test set that is not there.

    They are SPLIT/source and SPLIT/target, source/SPLIT and target/SPLIT, or SPLITsource and SPLITtarget (trainA) in
    ``root``, or without any of these source and target themselves, for training. Where nothing is called "source" or
    "target", A and B are looked for. Names may be in another Unicode form.

    Raises:
        DataError: ``root`` is missing, a side is, two folders are called like one, or there is a val or test set but no
            train set.
    """
    refuse_missing(root)
    try:
        sides, notices = tuple(str(Path(side).expanduser()) for side in (source, target, *more)), list[str]()
    except RuntimeError as error:
        raise DataError(f"data.source, data.target: {error}; write the path without ~") from error
    if sides[:2] == DEFAULT_SIDES and not _has_sides(root, DEFAULT_SIDES) and _has_sides(root, SIDES):
        sides = (*SIDES, *sides[2:])
        turned = 'the other way round it is data.source = "B" and data.target = "A"'
        notices.append(f"{root}: it has no folders source and target, so A is translated to B; {turned}")
    layouts = list(_layouts(root, sides))
    for folders in layouts:
        if split in folders:
            parents = {0: [root], 1: [_of(root, side) for side in dict.fromkeys(sides)]}.get(layouts.index(folders), [])
            for parent in parents if split == "train" else ():
                notices += beside_splits(parent)
            return SideFolders(folders[split], notices, split)
    if split != "train":
        return None
    for folders in layouts:
        _refuse_no_train_set(root, {each: those[0] for each, those in folders.items()})
    of_sides = tuple(_of(root, side) for side in sides)
    in_root = not all(Path(side).is_absolute() for side in sides)
    for folder in (*[root] * in_root, *of_sides):
        _refuse_no_train_set(folder, split_folders(folder))
    if not all(folder.is_dir() for folder in of_sides):
        raise DataError(_sides_missing(root, sides))
    return SideFolders(of_sides, notices, None)


def _layouts(root: Path, sides: Sequence[str]) -> Iterator[dict[Split, tuple[Path, ...]]]:
    """The folders of all sides by split, for each way in which they may lie below ``root``."""
    # a folder that is named in full lies in none of them
    sets = {} if any(Path(side).is_absolute() for side in sides) else split_folders(root)
    within = {split: tuple(_of(path, side) for side in sides) for split, path in sets.items()}
    yield {split: those for split, those in within.items() if any(folder.is_dir() for folder in those)}
    of_sides = [split_folders(_of(root, side)) for side in sides]
    yield _joined(of_sides, sides, lambda side, split: _of(root, side) / split)
    glued = []
    for called in (normalize("NFC", side).lower() for side in sides):
        matches = [(SPLIT_AND_SIDE.fullmatch(normalize("NFC", path.name)), path) for path in subfolders(root)]
        of_side = [(split_of(match[1]), path) for match, path in matches if match and match[2].lower() == called]
        glued.append(_one_each(root, of_side))
    yield _joined(glued, sides, lambda side, split: root / f"{split}{side}")


def _of(folder: Path, side: str) -> Path:
    return in_other_form(folder / side)


def _joined(
    found: Sequence[Mapping[Split, Path]], sides: Sequence[str], otherwise: Callable[[str, Split], Path]
) -> dict[Split, tuple[Path, ...]]:
    """The folders of all sides by split; one that a side lacks is where it would be ``otherwise``."""
    splits = dict.fromkeys(split for each in found for split in each)
    each_of = list(zip(found, sides, strict=True))
    return {split: tuple(each.get(split) or otherwise(side, split) for each, side in each_of) for split in splits}


def _has_sides(root: Path, sides: Sequence[str]) -> bool:
    return any(_of(root, side).is_dir() for side in sides) or any(_layouts(root, sides))


def _sides_missing(root: Path, sides: Sequence[str]) -> str:
    """What to say where a folder of sources or of targets is not there: a root a level too high, or other names."""
    missing = [root / side for side in sides if not _of(root, side).is_dir()]
    message = f"{' and '.join(map(str, missing))}: there is no such folder"
    for path in subfolders(root):
        if _has_sides(path, sides) or _has_sides(path, SIDES) or any(map(split_of, _names(path))):
            return f'{message}; data.root is a level too high if {path} is meant: give data.root = "{path}"'
    there = f"the folders there are called {_some(_names(root))}" if subfolders(root) else "there are no folders"
    keys = "data.source, data.target and data.mask" if len(sides) > 2 else "data.source and data.target"
    count = "those meant" if len(sides) > 2 else "two of them"
    return f"{message}; in {root} {there}. Set {keys} to the names of {count}"


def _names(folder: Path) -> list[str]:
    return [path.name for path in subfolders(folder)]


class FilePairs:
    """A data set (contracts.PairedDataset) of files below ``root``: of each sample its sources, its target, its mask.

    A sample's key is the path of its (first) source below ``sources``, which is ``root`` unless given. ``groups`` are
    what keeps samples together where a part of them becomes the val set, one for each. Several sources have ``names``,
    one for each; ``masked`` says that there are masks.
    """

    def __init__(
        self, root: Path, files: Sequence[tuple[Path, ...]], sources: Path | None = None, groups: Sequence[str] = (),
        names: Sequence[str] = (), masked: bool = False,
    ) -> None:  # fmt: skip
        self._root, self._files, self._sources, self._groups = root, files, sources or root, groups
        self._names, self._masked, self._count = tuple(names), masked, len(names) or 1
        self.notices: list[str] = []
        self.problems: list[str] = []
        self._least: Mapping[str, tuple[int, int]] = {}

    @property
    def source_files(self) -> list[Path]:
        """The files of sources, of all where there are several: none of them may be in two sets."""
        return [file for files in self._files for file in files[: self._count]]

    @property
    def target_files(self) -> list[Path]:
        """The files of targets."""
        return [files[self._count] for files in self._files]

    @property
    def mask_files(self) -> list[Path]:
        """The files of masks."""
        return [files[-1] for files in self._files] if self._masked else []

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        least = [self._least.get(side) for side in ("source",) * self._count + ("target",)]
        images = [read_image(*each) for each in zip_longest(self._files[index], least)]
        self._refuse_unequal(index, [image.shape[:2] for image in images])
        source = dict(zip(self._names, images, strict=False)) if self._names else images[0]
        return Sample(source, images[self._count], self.key(index), images[-1] if self._masked else None)

    def header(self, index: int) -> SampleHeader:
        """The shapes of the sample at ``index``, from the headers of its files."""
        shapes = [image_header(file) for file in self._files[index]]
        self._refuse_unequal(index, [shape[:2] for shape in shapes])
        target, mask = shapes[self._count], shapes[-1] if self._masked else NO_IMAGE
        if self._names:
            named = dict(zip(self._names, shapes, strict=False))
            return SampleHeader.of_sources(named, target, self.key(index), mask)
        return SampleHeader(shapes[0], target, self.key(index), mask)

    def reduced(self, sizes: Mapping[str, tuple[int, int]]) -> Self:
        """The same samples, with images that may be read at reduced size (see contracts.PairedDataset)."""
        found = copy(self)
        if not self._masked:  # a mask goes with its target, and sources with one another, pixel by pixel
            found._least = {side: size for side, size in sizes.items() if side == "target" or not self._names}
        return found

    def key(self, index: int) -> str:
        """The key of the sample at ``index``, without reading it."""
        return key_of(self._files[index][0], self._sources)

    def group(self, index: int) -> str:
        """What keeps the sample at ``index`` with others in one set; empty where nothing does."""
        return self._groups[index] if self._groups else ""

    def _refuse_unequal(self, index: int, sizes: Sequence[tuple[int, int]]) -> None:
        """Raise DataError unless sources are of one size, and the mask of its target's."""
        count = self._count
        for place, size in enumerate(sizes[1:], 1):
            called, other = (
                ("the sources of a sample", 0) if place < count else ("the target and the mask of a sample", count)
            )
            if size != sizes[other]:
                files = (f"{self._files[index][each]} is {'x'.join(map(str, sizes[each]))}" for each in (other, place))
                raise DataError(f"{called} differ in size (height x width): {' and '.join(files)}")

    def fingerprint(self) -> str:
        """A digest of the files (:func:`fingerprint_of`), and of what several sources are called."""
        more = ([f"sources {self._names}"] if self._names else []) + ["masked"] * self._masked
        return fingerprint_of(self._root, [file for files in self._files for file in files], *more)


def least_of_both(sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """How small one image may be of which both sides are made; None where a side is not in ``sizes``."""
    if not sizes.keys() >= {*DEFAULT_SIDES}:
        return None
    heights, widths = zip(*(sizes[side] for side in DEFAULT_SIDES), strict=True)
    return max(heights), max(widths)


def key_of(file: Path, root: Path) -> str:
    """The path of ``file`` below ``root`` as a key, which can be printed: bytes that are not UTF-8 become \\xff."""
    return os.fsencode(_below(file, root)).decode("utf-8", "backslashreplace")


def fingerprint_of(root: Path, files: Iterable[Path], *more: str) -> str:
    """A digest of ``files``, and of what ``more`` makes it another data set.

    Of each file it takes the name below ``root``, the size, and bytes at its beginning, middle and end.
    """
    digest = hashlib.sha256(repr(more).encode("utf-8", "backslashreplace"))
    files = list(files)
    for file, content in zip(files, contents(files), strict=True):
        digest.update(b"%s\0%s\0" % (os.fsencode(_below(file, root)), content))
    return digest.hexdigest()[:16]


def _below(file: Path, root: Path) -> Path:
    """The path of a file below ``root``; as it is where it lies elsewhere, as a list may have it."""
    return file.relative_to(root) if file.is_relative_to(root) else file
