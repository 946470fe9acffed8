"""Latent vectors: a generator's noise that is not dropout, drawn by a module that translation knows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Latent(nn.Module):
    """Draws a vector of ``size`` values from N(0, 1) for each image, for a generator that was given none.

    Like dropout it draws in training mode alone; in evaluation mode the vector is 0, the mean. At translation with
    noise the vector of an image is a function of the seed, the same in all of its tiles and on every device.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, source: Tensor) -> Tensor:
        """[N, size] for sources [N, C, H, W], on their device."""
        if not self.training:
            return source.new_zeros(len(source), self.size)
        return torch.randn(len(source), self.size, device=source.device, dtype=source.dtype)
