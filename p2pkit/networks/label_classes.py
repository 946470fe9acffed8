"""The classes of label maps that are colours, and the scores of segmentations: accuracies and IoU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.errors import DataError

MOST_CLASSES = 256
FEWEST_COLOURS = 64
"""Maps with no more colours than these have exact ones, each of which is a class; others have been compressed."""
WINDOW, FLAT = 5, 24
"""A place of compressed maps is flat where no channel differs by more among so many pixels each way, of 255."""
NEAR, ALIKE = 30, 12
"""What JPEG makes of a flat colour deviates from it by less, of 255 in Euclidean distance; most of it by no more."""
RARE = 1e-3
"""In compressed maps a colour of a smaller share of the flat places is no class."""
COVERED = 0.85
"""At least this share of the flat places of label maps is like the colour of a class: of JPEGs of quality 50 more than
0.92 is, of photos and relief maps less than 0.66."""
SCORES = ("pixel_acc", "class_acc", "class_iou")

Colour = tuple[float, ...]
"""Values in [0, 1], one a channel. The number of a class is a colour of one channel."""


@dataclass(frozen=True)
class LabelClasses:
    """What the classes of label maps are called, and which colours they have there."""

    names: Sequence[str]
    colours: Sequence[Colour]
    """Of each class, in the order of its number."""
    void: Sequence[Colour] = ()
    """Colours of pixels that are of no class, and count nowhere."""
    tolerance: float = math.inf
    """Pixels that are further from every class are of none."""

    @property
    def channels(self) -> int:
        """How many channels the label maps have."""
        return len(self.colours[0])

    def numbers(self, image: Tensor) -> Tensor:
        """The class [N, H, W] of each pixel of label maps [N, C, H, W] in [0, 1]: that of the nearest colour; -1: none.

        Raises:
            DataError: the maps have another number of channels.
        """
        if image.shape[1] != self.channels:
            raise DataError(
                f"the classes are colours of {self.channels} channels, and the label maps have {image.shape[1]}; give "
                "those of these label maps"
            )
        found = torch.full_like(image[:, 0], -1, dtype=torch.long)
        nearest = torch.full_like(image[:, 0], self.tolerance**2)
        for number, colour in [*enumerate(self.colours), *((-1, colour) for colour in self.void)]:
            distance = (image - image.new_tensor(colour)[:, None, None]).square().sum(1)
            found = torch.where(distance < nearest, number, found)
            nearest = torch.minimum(distance, nearest)
        return found

    def share_of_none(self, image: Tensor) -> float:
        """The share of the pixels of label maps [N, C, H, W] in [0, 1] that have nearly no colour of these.

        Little of label maps, of which JPEG and resizing mix the edges alone; nearly all of photos and of other classes.
        """
        colours = [*self.colours, *self.void]
        tolerance = NEAR / 255 if self.tolerance == math.inf else self.tolerance
        near = LabelClasses([""] * len(colours), colours, tolerance=tolerance)
        return (near.numbers(image) < 0).double().mean().item()


class ColourCount:
    """Counts the colours of label maps, by which their classes are found."""

    def __init__(self) -> None:
        self._colours: set[Colour] = set()
        self._flat: Counter[Colour] = Counter()
        """The pixels of each colour that lie amid others like it: no edge, nothing that JPEG or resizing has mixed."""

    def add(self, image: Tensor) -> None:
        """Take in a label map [C, H, W] in [0, 1]."""
        levels = (image * 255).round()
        if len(self._colours) <= FEWEST_COLOURS:
            colours, _ = _counted(levels)
            self._colours.update(map(tuple, colours[: FEWEST_COLOURS + 1].tolist()))  # of more it matters only that
        if min(levels.shape[1:]) >= WINDOW:
            highest, lowest = F.max_pool2d(levels, WINDOW, 1), -F.max_pool2d(-levels, WINDOW, 1)
            flat = (highest - lowest).amax(0) <= FLAT
            margin = WINDOW // 2
            colours, counts = _counted(levels[:, margin:-margin, margin:-margin][:, flat])
            self._flat.update(dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True)))

    @property
    def exact(self) -> bool:
        """Whether the colours are so few that each is a class."""
        return len(self._colours) <= FEWEST_COLOURS

    def classes(self) -> LabelClasses:
        """The classes: each colour, where these are few; else the flat colours, those that are near one another as one.

        Raises:
            DataError: these are no label maps; their flat colours are many.
        """
        if self.exact:
            return _named(sorted(self._colours))
        counts = sorted(self._flat.items(), key=lambda item: (-item[1], item[0]))
        each = len(counts[0][0]) if counts else 0
        colours = torch.tensor([colour for colour, _ in counts], dtype=torch.float64).reshape(len(counts), each)
        shares = torch.tensor([count for _, count in counts], dtype=torch.float64) / max(1, self._flat.total())
        left, chosen, covered = torch.ones(len(counts), dtype=torch.bool), list[Colour](), 0.0
        while left.any() and len(chosen) < FEWEST_COLOURS:
            first = int(left.nonzero()[0])
            distance = (colours - colours[first]).square().sum(1).sqrt()
            near = left & (distance <= NEAR)
            left &= ~near
            if float(shares[near].sum()) >= RARE:
                chosen.append(counts[first][0])
                covered += float(shares[near & (distance <= ALIKE)].sum())
            elif shares[first] < RARE / 100:
                break
        if covered < COVERED:
            raise DataError(
                "the sources are no label maps, which have one flat colour a class: they have more than "
                f"{FEWEST_COLOURS} colours, and of their flat places {covered:.0%} are near the {len(chosen)} most "
                "frequent. Where labels are the targets, swap source and target; or give the classes (--classes)"
            )
        return _named(chosen)


def _counted(levels: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The colours [K, C] of an image [C, ...] of whole numbers from 0 to 255, sorted, and their numbers of pixels."""
    values = levels.flatten(1).to(torch.uint8).numpy()
    values = values[:, np.lexsort(values[::-1])]  # a twentieth of the time of np.unique along an axis
    first = np.append(True, (values[:, 1:] != values[:, :-1]).any(0))[: values.shape[1]]
    starts = np.flatnonzero(first)
    return values[:, starts].T, np.diff(starts, append=values.shape[1])


def _named(colours: Sequence[Colour]) -> LabelClasses:
    """Classes of colours in whole numbers from 0 to 255, by which they are called: "#0055ff" or "#7f"."""
    names = ["#" + "".join(f"{value:02x}" for value in each) for each in colours]
    return LabelClasses(names, [tuple(value / 255 for value in each) for each in colours])


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How many pixels [K, K + 1], float64, of each class (row) were taken for which (column).

    ``truth`` and ``predicted`` are numbers of classes of one shape, -1 for none, which is the last column. Pixels that
    are of none in ``truth`` do not count.
    """
    counted = truth >= 0
    columns = torch.where(predicted < 0, classes, predicted)
    codes = truth[counted] * (classes + 1) + columns[counted]
    return torch.bincount(codes, minlength=classes * (classes + 1)).reshape(classes, classes + 1).double()


def scores(table: Tensor) -> dict[str, float]:
    """Per-pixel accuracy, per-class accuracy and class IoU by name, of a confusion [K, K + 1] summed over all images.

    As Long et al. 2015 (section 5) have them: with n_ij pixels of class i taken for j, t_i = sum_j n_ij, they are
    sum n_ii / sum t_i, mean n_ii / t_i, and mean n_ii / (t_i + sum_j n_ji - n_ii). A class without pixels is left out
    of the second mean, and one that is neither there nor predicted out of the third. NaN where nothing counts.
    """
    right, there, predicted = table.diagonal(), table.sum(1), table.sum(0)[:-1]
    values = right.sum() / there.sum(), (right / there).nanmean(), (right / (there + predicted - right)).nanmean()
    return dict(zip(SCORES, (float(value) for value in values), strict=True))
