"""Whether the labels can be recognised in photos that were made of them, and whether label maps are right."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from p2pkit.builtin.label_tables import Known, label_classes
from p2pkit.errors import DataError, RecipeError
from p2pkit.networks.label_classes import confusion, scores
from p2pkit.networks.segmenter import read_segmenter

UNLIKE = 0.95
"""Sources of which a larger share has none of the colours of the classes are no label maps of them."""


class _OfConfusion:
    """A metric over a set by which pixels of which class were taken for which."""

    higher_is_better: bool | None = True
    over = "set"
    prefix: str

    def __init__(self, classes: int) -> None:
        self._count = classes
        self.reset()

    def compute(self) -> dict[str, float]:
        """Per-pixel accuracy, per-class accuracy and class IoU by name."""
        return {f"{self.prefix}_{name}": value for name, value in scores(self._table).items()}

    def reset(self) -> None:
        """Begin anew."""
        self._table = torch.zeros(self._count, self._count + 1, dtype=torch.float64)


class FCNScore(_OfConfusion):
    """How well a segmentation network recognises in outputs the labels that they were made of (Isola et al. 2017, 3.3).

    For labels -> photo: sources are label maps, outputs photos. The numbers are fcn_pixel_acc, fcn_class_acc
    and fcn_class_iou, of all pixels of all images together (Long et al. 2015, section 5): a class that is not there is
    left out of the mean accuracy, one that is neither there nor recognised out of the mean IoU. Compare them with the
    row ground_truth, those of the targets.

    Args:
        segmenter: the file of the network, which ``p2pkit evaluate RECIPE --fit-segmenter FILE`` makes of the data.
    """

    prefix = "fcn"

    def __init__(self, segmenter: Path) -> None:
        self._segmenter = read_segmenter(segmenter)
        super().__init__(len(self._segmenter.classes.names))
        self.computed_with = {**self._segmenter.computed_with, "classes": str(self._count)}

    def features(self, image: Tensor, source: Tensor) -> Tensor:
        """The confusion [K, K + 1] of images [N, C, H, W] that are to show the label maps ``source`` [N, Cs, h, w].

        Raises:
            DataError: hardly a pixel of the label maps has the colour of a class, so that they are none, or of others.
        """
        if (share := self._segmenter.classes.share_of_none(source)) > UNLIKE:
            raise DataError(
                f"{share:.0%} of the pixels of a source have no colour of the segmenter's classes; sources must be "
                "label maps with these: fit a segmenter on this data, or leave the metric out"
            )
        if not image.isfinite().all():
            return torch.full_like(self._table, torch.nan)
        truth, found = self._segmenter.classes.numbers(source), self._segmenter(image)
        factor = found.shape[1] // truth.shape[1]
        if factor > 1:  # targets larger than their sources
            truth = truth.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        if truth.shape != found.shape:
            raise RecipeError(f"label maps {list(truth.shape)} for photos {list(found.shape)}")
        return confusion(truth, found, self._count)

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in the confusion [K, K + 1] of outputs; that of targets is not needed."""
        self._table = self._table + output


class LabelScore(_OfConfusion):
    """Whether the class of each pixel is right where outputs are label maps (Isola et al. 2017, table 6).

    For photo -> labels: a pixel is of the class whose colour is nearest. The numbers are label_pixel_acc,
    label_class_acc and label_class_iou, as ``fcn_score`` has them.

    Args:
        classes: "cmp_facades", "cityscapes" (the 19 that are evaluated), or a CSV file with a line for each class,
            name,red,green,blue; pixels of the colours called "void" do not count.
    """

    prefix = "label"

    def __init__(self, classes: Known | Path) -> None:
        self._classes = label_classes(classes)
        super().__init__(len(self._classes.names))

    def features(self, image: Tensor) -> Tensor:
        """The classes [N, H, W] of label maps [N, C, H, W] in [0, 1], -1 for none, -2 where values are not finite."""
        return torch.where(image.isfinite().all(1), self._classes.numbers(image), -2)

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in the classes of outputs and targets."""
        self._table = self._table + confusion(target, output, self._count)
        if (output == -2).any():
            self._table = torch.full_like(self._table, torch.nan)
