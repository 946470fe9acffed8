"""Cityscapes (Cordts et al. 2016) in the folders of its own archives: label maps, or maps of instances, and photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from p2pkit.contracts import Direction, Sample, SampleHeader, Shape
from p2pkit.data.discovery import FilePairs, refuse_splits_among
from p2pkit.data.pairing import STEM, Pairs, match
from p2pkit.errors import DataError, MissingData, RecipeError
from p2pkit.images.discovery import OTHER, Found, discover

PHOTOS, MAPS = "leftImg8bit", "gtFine"
REMEDY = (
    "Cityscapes cannot be downloaded by a program: register at www.cityscapes-dataset.com, get "
    "leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB), and unpack both in one folder "
    "(data.root)"
)
CITYSCAPES: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}  # fmt: skip
"""The 19 classes that are evaluated (Cordts et al. 2016), with the colours of the label maps."""
CHANNELS = {"color": 3, "labelIds": 1, "instanceIds": 1}


class Cityscapes(FilePairs):
    """Photos (A) in ``root/leftImg8bit/SPLIT/CITY`` and their maps (B) in ``root/gtFine/SPLIT/CITY``.

    2975 pairs to train on and 500 in the val set, of 2048x1024; the labels of Cityscapes' own test set are not
    published. Its site gives the archives leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip to people who have
    registered and agreed to its licence; unpack both in ``root``.

    Args:
        root: the folder that holds leftImg8bit and gtFine.
        labels: which maps: "color" for each class's colour, as in the pix2pix paper, "labelIds" for its number,
            "instanceIds" for 16-bit numbers of objects.
        direction: "BtoA" translates maps to photos, "AtoB" photos to maps.
        size: pixels of a side to which both are resized as they are read, photos bicubically, maps by the nearest
            pixel: 256 in the pix2pix paper; as stored by default.
    """

    target_ending = ".png"

    def __init__(
        self, split: Literal["train", "val"], root: Path = Path("datasets/cityscapes"),
        labels: Literal["color", "labelIds", "instanceIds"] = "color", direction: Direction = "BtoA",
        size: Annotated[int, Field(ge=32)] | None = None,
    ) -> None:  # fmt: skip
        if size and labels == "instanceIds":
            raise RecipeError('data.size: objects may be lost where "instanceIds" are resized; leave it out')
        self._labels, self._direction, self._size = labels, direction, size
        photos, maps = root / PHOTOS / split, root / MAPS / split
        missing = [str(folder) for folder in (photos, maps) if not folder.is_dir()]
        if missing and (split == "train" or len(missing) == 1):
            what = f"{' and '.join(missing)}: there is no such folder"
            if len(missing) == 1:
                raise DataError(f"{what}. {REMEDY}")
            stored = (size or 1024, size or 2048)
            shapes = (*stored, CHANNELS[labels]), (*stored, 3)
            stands_in = SampleHeader(*(shapes if direction == "BtoA" else shapes[::-1]), "cityscapes")
            raise MissingData(what, REMEDY, stands_in)
        self.classes = CITYSCAPES if labels == "color" and direction == "BtoA" else {}
        found = Pairs([]) if missing else _matched(maps, photos, f"_gtFine_{labels}.png", direction)
        super().__init__(root, found.files, root / (MAPS if direction == "BtoA" else PHOTOS))
        self.notices += found.notices
        self.problems += found.problems

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        photo_first = self._direction == "AtoB"
        source, target = self._as_asked(sample.source, photo_first), self._as_asked(sample.target, not photo_first)
        return sample._replace(source=source, target=target)

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``, from the headers of its files."""
        found = super().header(index)
        return SampleHeader(self._shape(found.source), self._shape(found.target), found.key)

    def _as_asked(self, image: NDArray[Any], photo: bool) -> NDArray[Any]:
        """An image of the size that is asked for; maps of colours are stored with an alpha channel."""
        image = image[:, :, :3]
        if self._size is None:
            return image
        how = Image.Resampling.BICUBIC if photo else Image.Resampling.NEAREST
        resized = Image.fromarray(np.squeeze(np.asarray(image))).resize((self._size, self._size), how)
        return np.asarray(resized).reshape(self._size, self._size, -1)

    def _shape(self, stored: Shape) -> Shape:
        return (self._size or stored[0], self._size or stored[1], min(3, stored[2]))

    def fingerprint(self) -> str:
        """A digest of the files, and the size to which they are resized."""
        return f"{super().fingerprint()}{f' {self._size} pixels' if self._size else ''}"


def _matched(maps: Path, photos: Path, ending: str, direction: Direction) -> Pairs:
    """The pairs of a split, in the order of their names."""
    sides = (maps, ending), (photos, f"_{PHOTOS}.png")
    sources, targets = sides if direction == "BtoA" else sides[::-1]
    of_source, of_target = _of_kind(*sources), _of_kind(*targets)
    patterns = (STEM + name.removesuffix(".png") for _, name in (sources, targets))
    found = match(of_source, of_target, *patterns)
    return found._replace(notices=[*of_source.notices, *of_target.notices])


def _of_kind(folder: Path, ending: str) -> Found:
    """The files of a split that end so; the archives have others beside them, which are worth no word."""
    found = discover(folder).without(OTHER)
    files = [file for file in found.files if file.name.endswith(ending)]
    refuse_splits_among(folder, files, "train" if folder.name == "train" else "val")
    if not files:
        raise DataError(f"{folder}: none of its {len(found.files)} images is called *{ending}")
    return found._replace(files=files)
