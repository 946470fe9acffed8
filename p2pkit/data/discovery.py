"""A data set's files: the folders of its splits and of its sides, pairs of image files, keys, fingerprints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from p2pkit.contracts import Sample, SampleHeader, Split
from p2pkit.data.split_names import SIDES, SPLIT_AND_SIDE, like_another_split, of_one_side, split_of
from p2pkit.errors import DataError
from p2pkit.images.discovery import is_system_folder
from p2pkit.images.formats import installed
from p2pkit.images.reading import image_header, read_image
from p2pkit.settings import in_other_form

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
    """Raise DataError when ``root``, a data set's, is not a folder."""
    if not root.is_dir():
        found = "this is a file, not a folder" if root.exists() else "there is no such folder"
        raise DataError(f"{root}: {found} (data.root)")


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
    others = [f"{images} image{'s' * (images > 1)}"] if images else []
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
            f"{folder}: it has a folder {name}, but no folder train; images of the {split} set must not be trained on"
        )


class SideFolders(NamedTuple):
    """The folders of a split's sources and targets, and what is to be said of how they were found."""

    sources: Path
    targets: Path
    notices: list[str]
    split: Split | None
    """Whose they are; None where they are all there is, and hold the train set."""

    def refuse_splits_among(self, sources: Iterable[Path], targets: Iterable[Path]) -> None:
        """Raise DataError when these files of theirs are in a folder called like a split, or like another one."""
        refuse_splits_among(self.sources, sources, self.split, of_sides=True)
        refuse_splits_among(self.targets, targets, self.split, of_sides=True)


def side_folders(root: Path, split: Split, source: str, target: str) -> SideFolders | None:
    """The folders of a split's sources and targets; None for a val or test set that is not there.

    They are SPLIT/source and SPLIT/target, source/SPLIT and target/SPLIT, or SPLITsource and SPLITtarget (trainA) in
    ``root``, or without any of these source and target themselves, for training. Where nothing is called "source" or
    "target", A and B are looked for. Names may be in another Unicode form.

    Raises:
        DataError: ``root`` is missing, a side is, two folders are called like one, or there is a val or test set but no
            train set.
    """
    refuse_missing(root)
    source, target = (str(Path(side).expanduser()) for side in (source, target))
    sides, notices = (source, target), list[str]()
    if sides == DEFAULT_SIDES and not _has_sides(root, sides) and _has_sides(root, SIDES):
        sides = SIDES
        turned = 'the other way round it is data.source = "B" and data.target = "A"'
        notices.append(f"{root}: it has no folders source and target, so A is translated to B; {turned}")
    layouts = list(_layouts(root, *sides))
    for folders in layouts:
        if split in folders:
            parents = {0: [root], 1: [_of(root, side) for side in dict.fromkeys(sides)]}.get(layouts.index(folders), [])
            for parent in parents if split == "train" else ():
                notices += beside_splits(parent)
            return SideFolders(*folders[split], notices, split)
    if split != "train":
        return None
    for folders in layouts:
        _refuse_no_train_set(root, {each: both[0] for each, both in folders.items()})
    of_sides = _of(root, sides[0]), _of(root, sides[1])
    in_root = not all(Path(side).is_absolute() for side in sides)
    for folder in (*[root] * in_root, *of_sides):
        _refuse_no_train_set(folder, split_folders(folder))
    if not all(folder.is_dir() for folder in of_sides):
        raise DataError(_sides_missing(root, sides))
    return SideFolders(*of_sides, notices, None)


def _layouts(root: Path, source: str, target: str) -> Iterator[dict[Split, tuple[Path, Path]]]:
    """The folders of both sides by split, for each way in which they may lie below ``root``."""
    # a folder that is named in full lies in none of them
    sets = {} if Path(source).is_absolute() or Path(target).is_absolute() else split_folders(root)
    within = {split: (_of(path, source), _of(path, target)) for split, path in sets.items()}
    yield {split: both for split, both in within.items() if both[0].is_dir() or both[1].is_dir()}
    of_sides = [split_folders(_of(root, side)) for side in (source, target)]
    yield _joined(of_sides[0], of_sides[1], (_of(root, source), _of(root, target)))
    glued: list[dict[Split, Path]] = []
    for side in (source, target):
        matches = [(SPLIT_AND_SIDE.fullmatch(normalize("NFC", path.name)), path) for path in subfolders(root)]
        side = normalize("NFC", side).lower()
        of_side = [(split_of(match[1]), path) for match, path in matches if match and match[2].lower() == side]
        glued.append(_one_each(root, of_side))
    yield {split: (glued[0].get(split, root / f"{split}{source}"), glued[1].get(split, root / f"{split}{target}"))
           for split in {**glued[0], **glued[1]}}  # fmt: skip


def _of(folder: Path, side: str) -> Path:
    return in_other_form(folder / side)


def _joined(
    sources: Mapping[Split, Path], targets: Mapping[Split, Path], sides: tuple[Path, Path]
) -> dict[Split, tuple[Path, Path]]:
    both = {**sources, **targets}
    return {split: (sources.get(split, sides[0] / split), targets.get(split, sides[1] / split)) for split in both}


def _has_sides(root: Path, sides: tuple[str, str]) -> bool:
    return any(_of(root, side).is_dir() for side in sides) or any(_layouts(root, *sides))


def _sides_missing(root: Path, sides: tuple[str, str]) -> str:
    """What to say where a folder of sources or of targets is not there: a root a level too high, or other names."""
    missing = [root / side for side in sides if not _of(root, side).is_dir()]
    message = f"{' and '.join(map(str, missing))}: there is no such folder"
    for path in subfolders(root):
        if _has_sides(path, sides) or _has_sides(path, SIDES) or any(map(split_of, _names(path))):
            return f'{message}; data.root is a level too high if {path} is meant: give data.root = "{path}"'
    there = f"the folders there are called {_some(_names(root))}" if subfolders(root) else "there are no folders"
    return f"{message}; in {root} {there}. Set data.source and data.target to the names of two of them"


def _names(folder: Path) -> list[str]:
    return [path.name for path in subfolders(folder)]


class FilePairs:
    """A data set (contracts.PairedDataset) of (source, target) files below ``root``.

    A pair's key is the path of its source below ``sources``, which is ``root`` unless given. ``groups`` are what keeps
    pairs together where a part of them becomes the val set, one for each.
    """

    called = "the two images of a pair"
    """What messages call the files of a pair."""

    def __init__(
        self, root: Path, pairs: Sequence[tuple[Path, Path]], sources: Path | None = None, groups: Sequence[str] = ()
    ) -> None:
        self._root, self._pairs, self._sources, self._groups = root, pairs, sources or root, groups
        self.notices: list[str] = []
        self.problems: list[str] = []

    @property
    def source_files(self) -> list[Path]:
        """The files of sources: none of them may be in two sets."""
        return [source for source, _ in self._pairs]

    @property
    def target_files(self) -> list[Path]:
        """The files of targets."""
        return [target for _, target in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        source, target = self._pairs[index]
        pair = Sample(read_image(source), read_image(target), self.key(index))
        self._refuse_unequal(index, pair.header)
        return pair

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``, from the headers of its files."""
        source, target = self._pairs[index]
        header = SampleHeader(image_header(source), image_header(target), self.key(index))
        self._refuse_unequal(index, header)
        return header

    def key(self, index: int) -> str:
        """The key of the pair at ``index``, without reading it."""
        return key_of(self._pairs[index][0], self._sources)

    def group(self, index: int) -> str:
        """What keeps the pair at ``index`` with others in one set; empty where nothing does."""
        return self._groups[index] if self._groups else ""

    def _refuse_unequal(self, index: int, header: SampleHeader) -> None:
        if header.source[:2] != header.target[:2]:
            files = zip(self._pairs[index], (header.source, header.target), strict=True)
            sizes = " and ".join(f"{file} is {shape[0]}x{shape[1]}" for file, shape in files)
            raise DataError(f"{self.called} differ in size (height x width): {sizes}")

    def fingerprint(self) -> str:
        """A digest of the files' names and sizes."""
        return fingerprint_of(self._root, [file for pair in self._pairs for file in pair])


def key_of(file: Path, root: Path) -> str:
    """The path of ``file`` below ``root`` as a key, which can be printed: bytes that are not UTF-8 become \\xff."""
    return os.fsencode(_below(file, root)).decode("utf-8", "backslashreplace")


def fingerprint_of(root: Path, files: Iterable[Path], *more: str) -> str:
    """A digest of the names (below ``root``) and sizes of ``files``, and of what ``more`` makes it another data set."""
    digest = hashlib.sha256(repr(more).encode("utf-8", "backslashreplace"))
    for file in files:
        digest.update(b"%s\0%d\0" % (os.fsencode(_below(file, root)), file.stat().st_size))
    return digest.hexdigest()[:16]


def _below(file: Path, root: Path) -> Path:
    """The path of a file below ``root``; as it is where it lies elsewhere, as a list may have it."""
    return file.relative_to(root) if file.is_relative_to(root) else file
