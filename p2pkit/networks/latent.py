"""A generator's noise that is not dropout, drawn by modules that translation knows: latent vectors, noise of places."""

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
        return _drawn(self, source, source.shape[0], self.size)


class SpatialNoise(nn.Module):
    """Draws ``channels`` values from N(0, 1) for each place of a feature map (as in Karras et al. 2019, StyleGAN).

    Like dropout it draws in training mode alone; in evaluation mode the values are 0, the mean. At translation with
    noise they are a function of the seed and the place in the image, the same wherever tiles overlap.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, values: Tensor) -> Tensor:
        """[N, channels, h, w] for feature maps [N, C, h, w], on their device; to be added to them, or put beside."""
        return _drawn(self, values, values.shape[0], self.channels, *values.shape[2:])


def _drawn(module: nn.Module, values: Tensor, *shape: int) -> Tensor:
    """Noise in training mode, zeros else, of the device and type of ``values``."""
    if not module.training:
        return values.new_zeros(shape)
    return torch.randn(*shape, device=values.device, dtype=values.dtype)
