"""Distances between the pixels of output and target, over values in [-1, 1]."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from p2pkit.contracts import Step


class L1:
    """The mean absolute difference (Isola et al. 2017, equation 3)."""

    def generator_loss(self, step: Step) -> Tensor:
        """The mean of |target - fake|."""
        return F.l1_loss(step.fake, step.target)


class L2:
    """The mean squared difference."""

    def generator_loss(self, step: Step) -> Tensor:
        """The mean of (target - fake)^2."""
        return F.mse_loss(step.fake, step.target)


class Charbonnier:
    """A smooth L1, sqrt(difference^2 + epsilon^2) (Charbonnier et al. 1994; Lai et al. 2017).

    Args:
        epsilon: differences well below it count as squared, in units of [-1, 1].
    """

    def __init__(self, epsilon: Annotated[float, Field(gt=0)] = 1e-3) -> None:
        self.epsilon = epsilon

    def generator_loss(self, step: Step) -> Tensor:
        """The mean over all pixels."""
        return ((step.target - step.fake).square() + self.epsilon**2).sqrt().mean()
