"""Losses on how neighbouring pixels hang together, over values in [-1, 1]."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from p2pkit.contracts import Step

WINDOW, SIGMA = 11, 1.5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2
"""The constants C1 and C2 that keep the index's two quotients stable, for values in [0, 1]."""


class TotalVariation:
    """The mean absolute difference between neighbouring pixels of the fake (Rudin et al. 1992), down and across.

    It asks for smooth areas, whatever the target is, so it is weak beside a distance to the target.
    """

    def generator_loss(self, step: Step) -> Tensor:
        """The sum of |difference| down and across, over the number of values."""
        down, across = (step.fake.diff(dim=axis).abs().sum() for axis in (2, 3))
        return (down + across) / step.fake.numel()


class SSIM:
    """1 - structural similarity (Wang et al. 2004), each channel by itself.

    In images with a side shorter than the window's 11 pixels, the window is as long as that side.
    """

    def generator_loss(self, step: Step) -> Tensor:
        """1 - the mean index of fake and target, between 0 and 2."""
        return 1 - structural_similarity(step.fake, step.target).mean()


def structural_similarity(one: Tensor, other: Tensor) -> Tensor:
    """The SSIM index [N, C, h, w] of images [N, C, H, W] in [-1, 1], at all places that a whole window has.

    The window is a Gaussian of 11x11 pixels with sigma 1.5; K1 = 0.01 and K2 = 0.03 (Wang et al. 2004, section III.C).
    """
    one, other = (one + 1) / 2, (other + 1) / 2  # the index takes black for 0
    maps = torch.stack([one, other, one.square(), other.square(), one * other])
    mean_one, mean_other, square_one, square_other, product = _windowed(_windowed(maps, -2), -1)
    covariance = product - mean_one * mean_other
    variances = square_one - mean_one.square() + square_other - mean_other.square()
    luminance = (2 * mean_one * mean_other + LUMINANCE) / (mean_one.square() + mean_other.square() + LUMINANCE)
    index: Tensor = luminance * (2 * covariance + CONTRAST) / (variances + CONTRAST)
    return index


def _windowed(values: Tensor, axis: int) -> Tensor:
    """Weighted means along ``axis`` over a Gaussian window."""
    size = min(WINDOW, values.shape[axis])
    heights = [math.exp(-((place - (size - 1) / 2) ** 2) / (2 * SIGMA**2)) for place in range(size)]
    length, area = values.shape[axis] - size + 1, sum(heights)
    # not a convolution, whose factors GPUs round to ten bits: much for a difference of squares
    shifted = (height / area * values.narrow(axis, place, length) for place, height in enumerate(heights))
    return functools.reduce(torch.add, shifted)
