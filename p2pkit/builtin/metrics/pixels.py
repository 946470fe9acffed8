"""Distances between the pixels of outputs and targets."""

from __future__ import annotations

from torch import Tensor


class MeanAbsoluteError:
    """The mean absolute error, as a fraction of the full range of values: 0 is perfect, 1 is black for white."""

    higher_is_better = False
    value_range = (-1.0, 1.0)

    _sum, _count = 0.0, 0

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in outputs and targets [N, C, H, W] in [-1, 1]."""
        self._sum += float((output.double() - target.double()).abs().sum()) / 2
        self._count += target.numel()

    def compute(self) -> float:
        """The mean over all that was taken in."""
        return self._sum / self._count

    def reset(self) -> None:
        """Begin anew."""
        self._sum, self._count = 0.0, 0
