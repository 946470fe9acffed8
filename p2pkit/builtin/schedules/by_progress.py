"""Schedules that are functions of the place in the run alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from p2pkit.errors import RecipeError
from p2pkit.run_contracts import Position

Share = Annotated[float, Field(ge=0, lt=1)]


class Constant:
    """The optimizer's own learning rate, from the first step to the last."""

    def __call__(self, position: Position) -> float:
        """The factor at ``position``."""
        return 1.0


@dataclass
class LinearDecay:
    """The learning rate falls to zero along a line, from some place of the run to its end.

    Args:
        decay_from: where it begins to fall, as a share of the run.
        per_epoch: let it fall once an epoch, as the PyTorch reference does: of E epochs, counted from 0, epoch e has
            the factor 1 - max(0, e + 1 - n) / (E - n + 1), where n = decay_from * E. The first step's is always 1.
    """

    decay_from: Share = 0.5
    per_epoch: bool = False

    def __call__(self, position: Position) -> float:
        """The factor at ``position``."""
        if self.per_epoch and position.progress > 0:
            epochs = round(position.epoch / position.progress, 6)  # of the whole run
            constant = self.decay_from * epochs
            fallen = max(0.0, math.floor(position.epoch) + 1 - constant) / (epochs - constant + 1)
            return max(0.0, 1.0 - fallen)
        return 1.0 - min(1.0, max(0.0, position.progress - self.decay_from) / (1.0 - self.decay_from))


@dataclass
class Cosine:
    """The learning rate falls to zero along half a wave, from some place of the run to its end.

    Args:
        decay_from: where it begins to fall, as a share of the run.
    """

    decay_from: Share = 0.5

    def __call__(self, position: Position) -> float:
        """The factor at ``position``."""
        decayed = min(1.0, max(0.0, position.progress - self.decay_from) / (1.0 - self.decay_from))
        return 0.5 * (1.0 + math.cos(math.pi * decayed))


@dataclass
class Step:
    """The learning rate is multiplied by ``gamma`` every so many epochs, or at milestones.

    PyTorch calls these StepLR and MultiStepLR.

    Args:
        every: epochs from one multiplication to the next.
        milestones: the epochs after which it is multiplied, in place of ``every``.
        gamma: what it is multiplied by.
    """

    every: Annotated[int, Field(gt=0)] | None = None
    milestones: list[Annotated[float, Field(gt=0)]] | None = None
    gamma: Annotated[float, Field(gt=0)] = 0.1

    def __post_init__(self) -> None:
        """Refuse both and neither."""
        if (self.every is None) == (self.milestones is None):
            raise RecipeError("schedule: step needs either every or milestones: every = 30, or milestones = [30, 80]")

    def __call__(self, position: Position) -> float:
        """The factor at ``position``."""
        passed = position.epoch // self.every if self.every else 0
        for milestone in self.milestones or ():
            passed += position.epoch >= milestone
        return float(self.gamma**passed)
