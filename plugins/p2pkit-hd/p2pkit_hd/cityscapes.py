"""Cityscapes (Cordts et al. 2016) in the folders of its own archives: maps of instances to photos of streets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from p2pkit.data.discovery import FilePairs
from p2pkit.errors import DataError, listed

PHOTOS, MAPS = "leftImg8bit", "gtFine"
PHOTO, MAP = "_leftImg8bit.png", "_gtFine_instanceIds.png"
SHOWN = 5
"""How many of the files without a partner a message names."""


class Cityscapes(FilePairs):
    """Photos in ``root/leftImg8bit/SPLIT/CITY`` and their 16-bit instanceIds in ``root/gtFine/SPLIT/CITY``.

    There is a train and a val set; the labels of Cityscapes' own test set are not published. Its site gives the
    archives leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip to people who have registered and agreed to its
    licence; unpack both in ``root``.

    Args:
        root: the folder that holds leftImg8bit and gtFine.
    """

    target_ending = ".png"
    called = "a photo and its map"

    def __init__(self, split: Literal["train", "val"], root: Path = Path("datasets/cityscapes")) -> None:
        photos, maps = root / PHOTOS / split, root / MAPS / split
        missing = [str(folder) for folder in (photos, maps) if not folder.is_dir()]
        if missing and (split == "train" or len(missing) == 1):
            raise DataError(
                f"{' and '.join(missing)}: there is no such folder. Cityscapes cannot be downloaded by a program: "
                "register at www.cityscapes-dataset.com, get leftImg8bit_trainvaltest.zip and "
                "gtFine_trainvaltest.zip, and unpack both in one folder (data.root)"
            )
        super().__init__(root, [] if missing else _matched(photos, maps), root / MAPS)


def _matched(photos: Path, maps: Path) -> list[tuple[Path, Path]]:
    """The (map, photo) pairs of a split, in the order of their names.

    Raises:
        DataError: a file has no counterpart.
    """
    found = {_stem(file, photos, PHOTO): file for file in photos.glob(f"*/*{PHOTO}")}
    mapped = {_stem(file, maps, MAP): file for file in maps.glob(f"*/*{MAP}")}
    lonely = [f"{found[stem]}: there is no {maps / stem}{MAP}" for stem in sorted(found.keys() - mapped.keys())]
    lonely += [f"{mapped[stem]}: there is no {photos / stem}{PHOTO}" for stem in sorted(mapped.keys() - found.keys())]
    if lonely:
        raise DataError("every photo needs its map of instances, and the other way round:" + listed(lonely, SHOWN))
    return [(mapped[stem], found[stem]) for stem in sorted(found)]


def _stem(file: Path, folder: Path, ending: str) -> str:
    """CITY/CITY_SEQUENCE_FRAME, which a photo and its map have in common."""
    return str(file.relative_to(folder)).removesuffix(ending)
