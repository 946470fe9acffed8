"""Distances between the pixels of outputs and targets."""

from __future__ import annotations

from torch import Tensor


class MeanAbsoluteError:
    """The mean absolute error, as a fraction of the full range of values: 0 is perfect, 1 is black for white."""

    higher_is_better = False

    _sum, _count = 0.0, 0

    def add(self, output: Tensor, target: Tensor) -> None:
        """Take in outputs and targets [N, C, H, W] in [-1, 1]."""
        self._sum += float((output.double() - target.double()).abs().sum()) / 2
        self._count += target.numel()

    def result(self) -> dict[str, float]:
        """``mae`` over all that was added."""
        return {"mae": self._sum / self._count}
