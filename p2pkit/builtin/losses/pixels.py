"""Distances between the pixels of output and target, over values in [-1, 1]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from p2pkit.contracts import Step


class L1:
    """The mean absolute difference (Isola et al. 2017, equation 3)."""

    def generator_term(self, step: Step) -> Tensor:
        """The mean of |target - fake|."""
        return F.l1_loss(step.fake, step.target)

    def discriminator_term(self, step: Step) -> None:
        """None: the discriminator has no part in it."""


class L2:
    """The mean squared difference."""

    def generator_term(self, step: Step) -> Tensor:
        """The mean of (target - fake)^2."""
        return F.mse_loss(step.fake, step.target)

    def discriminator_term(self, step: Step) -> None:
        """None: the discriminator has no part in it."""
