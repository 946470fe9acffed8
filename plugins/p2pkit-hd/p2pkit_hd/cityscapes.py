"""Cityscapes (Cordts et al. 2016) in the folders of its own archives: maps of instances to photos of streets."""

from __future__ import annotations

import hashlib
from pathlib import Path

from p2pkit.contracts import Pair, PairHeader, Split
from p2pkit.errors import DataError, listed
from p2pkit.images import image_header, read_image

PHOTOS, MAPS = "leftImg8bit", "gtFine"
PHOTO, MAP = "_leftImg8bit.png", "_gtFine_instanceIds.png"
FOLDERS: dict[Split, str] = {"train": "train", "test": "val"}
"""The labels of Cityscapes' own test split are not published."""
SHOWN = 5
"""How many of the files without a partner a message names."""


class Cityscapes:
    """Photos in ``root/leftImg8bit/SPLIT/CITY`` and their 16-bit instanceIds in ``root/gtFine/SPLIT/CITY``.

    Training pairs are those of train, held-out pairs those of val. Its site gives the archives
    leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip to people who have registered and agreed to its licence;
    unpack both in ``root``.

    Args:
        root: the folder that holds leftImg8bit and gtFine.
    """

    target_ending = ".png"

    def __init__(self, split: Split, root: Path = Path("datasets/cityscapes")) -> None:
        self._root = root
        photos, maps = root / PHOTOS / FOLDERS[split], root / MAPS / FOLDERS[split]
        missing = [str(folder) for folder in (photos, maps) if not folder.is_dir()]
        if missing and (split == "train" or len(missing) == 1):
            raise DataError(
                f"{' and '.join(missing)}: there is no such folder. Cityscapes cannot be downloaded by a program: "
                "register at www.cityscapes-dataset.com, get leftImg8bit_trainvaltest.zip and "
                "gtFine_trainvaltest.zip, and unpack both in one folder (data.root)"
            )
        self._pairs = [] if missing else _matched(photos, maps)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        source, target = self._pairs[index]
        pair = Pair(read_image(source), read_image(target), self._key(index))
        self._refuse_unequal(index, pair.header)
        return pair

    def header(self, index: int) -> PairHeader:
        """The shapes of the pair at ``index``, from the headers of its files."""
        source, target = self._pairs[index]
        header = PairHeader(image_header(source), image_header(target), self._key(index))
        self._refuse_unequal(index, header)
        return header

    def _key(self, index: int) -> str:
        return str(self._pairs[index][0].relative_to(self._root / MAPS))

    def _refuse_unequal(self, index: int, header: PairHeader) -> None:
        if header.source[:2] != header.target[:2]:
            files = zip(self._pairs[index], (header.source, header.target), strict=True)
            sizes = " and ".join(f"{file} is {shape[0]}x{shape[1]}" for file, shape in files)
            raise DataError(f"a photo and its map differ in size (height x width): {sizes}")

    def fingerprint(self) -> str:
        """A digest of the files' names and sizes."""
        digest = hashlib.sha256()
        for file in (file for pair in self._pairs for file in pair):
            digest.update(f"{file.relative_to(self._root)}\0{file.stat().st_size}\0".encode())
        return digest.hexdigest()[:16]


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
