"""Losses on how neighbouring pixels hang together, over values in [-1, 1]."""

from __future__ import annotations

from torch import Tensor

from p2pkit.builtin.metrics.pixels import structural_similarity
from p2pkit.contracts import Step


class TotalVariation:
    """The mean absolute difference between neighbouring pixels of the fake (Rudin et al. 1992), down and across.

    It asks for smooth areas, whatever the target is, so it is weak beside a distance to the target.
    """

    def generator_loss(self, step: Step) -> Tensor:
        """The sum of |difference| down and across, over the number of values."""
        down, across = (step.fake.diff(dim=axis).abs().sum() for axis in (2, 3))
        return (down + across) / step.fake.numel()


class SSIM:
    """1 - structural similarity (Wang et al. 2004), each channel by itself, as the metric of that name has it.

    Images have sides of 11 pixels or more, the window's.
    """

    def generator_loss(self, step: Step) -> Tensor:
        """1 - the mean index of fake and target, between 0 and 2."""
        return 1 - structural_similarity((step.fake + 1) / 2, (step.target + 1) / 2).mean()
