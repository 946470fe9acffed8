"""Cityscapes (Cordts et al. 2016) in the folders of its own archives: maps of instances to photos of streets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from p2pkit.data.discovery import FilePairs, refuse_splits_among
from p2pkit.data.pairing import STEM, Pairs, match
from p2pkit.errors import DataError
from p2pkit.images.discovery import OTHER, Found, discover

PHOTOS, MAPS = "leftImg8bit", "gtFine"
PHOTO, MAP = "_leftImg8bit.png", "_gtFine_instanceIds.png"


class Cityscapes(FilePairs):
    """Photos in ``root/leftImg8bit/SPLIT/CITY`` and their 16-bit instanceIds in ``root/gtFine/SPLIT/CITY``.

    There is a train and a val set; the labels of Cityscapes' own test set are not published. Its site gives the
    archives leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip to people who have registered and agreed to its
    licence; unpack both in ``root``.

    Args:
        root: the folder that holds leftImg8bit and gtFine.
    """

    target_ending = ".png"

    def __init__(self, split: Literal["train", "val"], root: Path = Path("datasets/cityscapes")) -> None:
        photos, maps = root / PHOTOS / split, root / MAPS / split
        missing = [str(folder) for folder in (photos, maps) if not folder.is_dir()]
        if missing and (split == "train" or len(missing) == 1):
            raise DataError(
                f"{' and '.join(missing)}: there is no such folder. Cityscapes cannot be downloaded by a program: "
                "register at www.cityscapes-dataset.com, get leftImg8bit_trainvaltest.zip and "
                "gtFine_trainvaltest.zip, and unpack both in one folder (data.root)"
            )
        found = Pairs([]) if missing else _matched(photos, maps)
        super().__init__(root, found.files, root / MAPS)
        self.notices += found.notices
        self.problems += found.problems


def _matched(photos: Path, maps: Path) -> Pairs:
    """The (map, photo) pairs of a split, in the order of their names."""
    sources, targets = _of_kind(maps, MAP), _of_kind(photos, PHOTO)
    found = match(sources, targets, STEM + MAP.removesuffix(".png"), STEM + PHOTO.removesuffix(".png"))
    return found._replace(notices=[*sources.notices, *targets.notices])


def _of_kind(folder: Path, ending: str) -> Found:
    """The files of a split that end so; the archives have others beside them, which are worth no word."""
    found = discover(folder).without(OTHER)
    files = [file for file in found.files if file.name.endswith(ending)]
    refuse_splits_among(folder, files, "train" if folder.name == "train" else "val")
    if not files:
        raise DataError(f"{folder}: none of its {len(found.files)} images is called *{ending}")
    return found._replace(files=files)
