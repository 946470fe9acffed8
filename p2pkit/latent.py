"""Latent vectors: a generator's noise that is not dropout, drawn by a module that translation knows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Latent(nn.Module):
    """Draws a vector of ``size`` values from N(0, 1) for each image, for a generator that was given none.

    At translation the vector of an image is a function of the seed, the same in all of its tiles and on every device;
    without noise it is 0, the mean.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, source: Tensor) -> Tensor:
        """[N, size] for sources [N, C, H, W], on their device."""
        return torch.randn(len(source), self.size, device=source.device, dtype=source.dtype)
