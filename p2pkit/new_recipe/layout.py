"""How a folder holds pairs: in two folders, by names in one, as halves of images; and which side is the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pkit.data.discovery import split_folder, split_folders, subfolders
from p2pkit.data.pairing import STEM, Pattern, likely_patterns
from p2pkit.data.split_names import SPLIT_AND_SIDE, split_of
from p2pkit.errors import DataError
from p2pkit.images.discovery import Found, discover
from p2pkit.images.reading import image_header
from p2pkit.images.volumes import is_volume, open_volume
from p2pkit.new_recipe.names import FEWEST_SHARE, Ordered, is_mask, orders, patterns_in, rank

LOOKED_AT = 40
"""At the headers of so many images it is seen whether they are two side by side."""
HALVES = 1.9, 2.1
"""How many times as wide as high these are."""
VOLUMES = (
    'it holds volumes, which are trained on plane by plane: write a recipe with data.name = "volume_slices" (p2pkit '
    "components volume_slices has its keys)"
)
WORDS = "two folders whose files are called alike (paired_folders)"


@dataclass(frozen=True)
class Layout:
    """How a folder holds pairs, as a recipe says it."""

    root: Path
    data: Mapping[str, Any]
    """The keys of ``[data]`` beside ``root``."""
    found: str
    """How the pairs were found."""
    sides: tuple[str, str]
    """What source and target are called."""
    told: bool
    """Whether names say which is which."""
    turned: str
    """The lines that turn it round."""
    notes: Sequence[str] = field(default=())
    """What else lies there, and what could be done with it."""

    @property
    def direction(self) -> str:
        """Which side is taken for the source, why, and what turns it round."""
        source, target = self.sides
        why = "as they are called" if self.told else "their names do not tell, so this is the order of the alphabet"
        if self.data["name"] == "side_by_side":
            why = "nothing tells which half is the source"
        return f"{source} is translated to {target}: {why}. The other way round: {self.turned}"


def find_layout(folder: Path) -> Layout:
    """How ``folder`` holds pairs.

    Raises:
        DataError: it is missing, holds no images or one alone, volumes, or images that do not pair.
    """
    found = discover(folder)
    _refuse_volumes(found)
    if len(found.files) == 1:
        raise DataError(f"{folder}: it holds one image ({found.files[0].name}); training takes pairs of images")
    root, folders = folder, subfolders(folder)
    # an archive unpacked is a folder in a folder
    while len(folders) == 1 and not split_of(folders[0].name) and not any(f.parent == root for f in found.files):
        root, folders = folders[0], subfolders(folders[0])
    split_folder(root, "train")  # refuses a val or test set without a train set
    layout = _by_folders(root) or _by_names(root) or _by_halves(root)
    if layout is None:
        raise DataError(_not_paired(root, found))
    return layout


def _refuse_volumes(found: Found) -> None:
    first = found.files[0]
    series = False
    with suppress(DataError):
        series = first.suffix.lower() == ".dcm" and open_volume(first.parent).shape[2] > 1
    if series or is_volume(first):
        raise DataError(f"{found.folder}: {VOLUMES}; the first is {first.parent if series else first}")


def _train_sides(root: Path) -> Iterator[dict[str, Path]]:
    """The folders that may hold the sides of the train set, by name, for each way in which they may lie in ``root``."""
    folders, train = subfolders(root), split_folders(root).get("train")
    yield {path.name: path for path in (subfolders(train) if train else ())}
    of_sides = {path.name: split_folders(path).get("train") for path in folders if not split_of(path.name)}
    yield {name: path for name, path in of_sides.items() if path is not None}
    glued = {path: SPLIT_AND_SIDE.fullmatch(path.name) for path in folders}
    yield {match[2]: path for path, match in glued.items() if match and split_of(match[1]) == "train"}
    if train is None:
        yield {path.name: path for path in folders if not split_of(path.name)}


def _by_folders(root: Path) -> Layout | None:
    """Pairs in two folders of which most files are called alike, or differ by the same beginnings or ends."""
    for sides in _train_sides(root):
        stems = dict[str, set[str]]()
        for name, path in sides.items():
            with suppress(DataError):  # a folder without images is not a side
                found = discover(path)
                stems[name] = {stem for stem, _ in _stems(found)}
        # of three folders one may be of masks, which weigh, and are not translated
        masks = [name for name in stems if is_mask(name)]
        usable = [name for name in stems if len(stems) - len(masks) < 2 or name not in masks]
        for ordered in orders(usable):
            if patterns := _patterns(stems[ordered.source], stems[ordered.target]):
                return _of_folders(root, ordered, patterns, stems)
    return None


def _stems(found: Found) -> Iterator[tuple[str, str]]:
    pattern = Pattern(STEM, "")
    for file in found.files:
        yield pattern.find(file, found.folder) or ("", "")


def _patterns(sources: set[str], targets: set[str]) -> tuple[str, str] | None:
    """The patterns by which most of two sides pair; None where they do not."""
    fewest = FEWEST_SHARE * min(len(sources), len(targets))
    if len(sources & targets) >= fewest:
        return STEM, STEM
    *patterns, pairs = likely_patterns(sorted(sources), sorted(targets))
    return (patterns[0], patterns[1]) if pairs >= max(2, fewest) else None


def _of_folders(root: Path, ordered: Ordered, patterns: tuple[str, str], stems: Mapping[str, set[str]]) -> Layout:
    source, target, told = ordered
    data = {"name": "paired_folders", "source": source, "target": target}
    found, turned = "files called alike in two folders are pairs", f'source = "{target}", target = "{source}"'
    if patterns != (STEM, STEM):
        data |= {"source_pattern": patterns[0], "target_pattern": patterns[1]}
        found = f"files of two folders are pairs by patterns of their names, {patterns[0]} and {patterns[1]}"
        turned += ", and the two patterns likewise"
    notes, pairs = [], stems[source] & stems[target]
    for other in sorted(stems.keys() - {source, target}):
        if len(stems[other] & pairs) < FEWEST_SHARE * len(pairs) or patterns != (STEM, STEM):
            notes.append(f"the folder {other} is not used: its files are not called like those of {source}")
        elif is_mask(other):
            notes.append(f'the folder {other} is not used; if it says which pixels of targets count: mask = "{other}"')
        else:
            several = f'as a second source: source = ["{source}", "{other}"]'
            as_target = f'; as the target: target = "{other}"' if rank(other) >= 0 else ""
            notes.append(f"the folder {other} is not used, though it has files of the same names; {several}{as_target}")
    return Layout(root, data, found, (source, target), told, turned, notes)


def _images(root: Path) -> Found | None:
    """The images of the train set, or of all there are; None where there are none."""
    with suppress(DataError):
        return discover(split_folders(root).get("train", root))
    return None


def _by_names(root: Path) -> Layout | None:
    """Pairs in one folder, by what their names begin or end with."""
    found = _images(root)
    if found is None or (paired := patterns_in([stem for stem, _ in _stems(found)])) is None:
        return None
    source, target, told, _ = paired
    data = {"name": "paired_folders", "source": ".", "target": "."}
    data |= {"source_pattern": source, "target_pattern": target}
    how = f"files of one folder are pairs by patterns of their names, {source} and {target}"
    turned = f'source_pattern = "{target}", target_pattern = "{source}"'
    return Layout(root, data, how, (source, target), told, turned)


def _by_halves(root: Path) -> Layout | None:
    """Pairs whose two images stand side by side."""
    found = _images(root)
    if found is None:
        return None
    files, wide = found.files[:: max(1, len(found.files) // LOOKED_AT)], []
    for file in files:
        with suppress(DataError):
            height, width, _ = image_header(file)
            wide.append(width % 2 == 0 and HALVES[0] <= width / height <= HALVES[1])
    if not wide:
        raise DataError(f"{root}: none of its {len(found.files)} images can be read; the first is {files[0]}")
    if sum(wide) < 0.9 * len(wide):
        return None
    data = {"name": "side_by_side", "direction": "AtoB"}
    how = "images are twice as wide as high, and taken for two side by side"
    return Layout(root, data, how, ("the left half", "the right half"), False, 'direction = "BtoA"')


def _not_paired(root: Path, found: Found) -> str:
    names = [path.name for path in subfolders(root)]
    folders = f" in the folders {', '.join(names[:5])}{', ...' * (len(names) > 5)}" if names else ""
    twice = Counter(stem for stem, _ in _stems(found))
    if not names and sum(count > 1 for count in twice.values()) * 4 >= len(found.files):
        return (
            f"{root}: its images are called alike but for their endings ({found.files[0].name}, "
            f"{found.files[1].name}), which do not pair images; put them into {WORDS}"
        )
    return (
        f"{root}: its {len(found.files)} images{folders} do not pair: neither are files of two folders called alike, "
        "nor do names in one folder differ by ends such as _A and _B, nor are images twice as wide as high, two side "
        f"by side. Put them into {WORDS}; for images of other widths that show both sides write a recipe with "
        'data.name = "side_by_side", for sources and targets that do not correspond one with "unpaired_folders"'
    )
