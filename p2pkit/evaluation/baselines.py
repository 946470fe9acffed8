"""Trivial translators that a model has to beat before it has learnt anything."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_FACTOR = 1_000_003
"""Odd, so that no channel falls out of a code however many there are; codes of many channels overflow, and may."""
LEVELS = 4
"""Source colours are quantised to this many levels a channel: enough for label maps, robust to JPEG's noise."""


class ClassMeanColour:
    """Paints every pixel with the mean target colour, over the training pairs, of its source colour.

    On label maps that is the mean colour of each class.
    """

    def __init__(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        sums: dict[int, Tensor] = {}
        counts: dict[int, int] = {}
        for source, target in pairs:
            codes, places = torch.unique(_codes(source), return_inverse=True)
            totals = torch.zeros(len(codes), target.shape[0], dtype=torch.float64)
            totals.index_add_(0, places.flatten(), target.double().flatten(1).T)
            each = torch.bincount(places.flatten(), minlength=len(codes))
            for code, total, count in zip(codes.tolist(), totals, each.tolist(), strict=True):
                sums[code] = sums[code] + total if code in sums else total
                counts[code] = counts.get(code, 0) + count
        self._colours = {code: (total / counts[code]).float() for code, total in sums.items()}
        self._unseen = (torch.stack(list(sums.values())).sum(0) / sum(counts.values())).float()

    def __call__(self, source: Tensor) -> Tensor:
        """Sources [1, Cs, H, W] in [-1, 1] to outputs [1, Ct, H, W]."""
        codes, places = torch.unique(_codes(source[0]), return_inverse=True)
        palette = torch.stack([self._colours.get(code, self._unseen) for code in codes.tolist()])
        return palette[places].permute(2, 0, 1)[None]


def _codes(source: Tensor) -> Tensor:
    """A number a pixel [H, W] that stands for its colour, from an image [C, H, W] in [-1, 1]."""
    levels = ((source + 1) / 2 * (LEVELS - 1)).round().long()
    code = torch.zeros_like(levels[0])
    for channel in levels:
        code = code * _FACTOR + channel
    return code
