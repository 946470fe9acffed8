"""The encoder E: the style of a target, as a distribution of latents (Zhu et al. 2017, section 4: E_ResNet)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from p2pkit.errors import RecipeError
from p2pkit.networks.layers import initialise

WIDEST = 4
"""Blocks grow to this many times the width."""


class ResidualEncoder(nn.Module):
    """A strided convolution, ``blocks`` residual blocks that halve, the mean over all that is left, two linear layers.

    Four blocks are the published encoder for 256x256, three that for 128x128; the mean over what is left, 8x8 there,
    makes other sizes work.
    """

    def __init__(self, channels: int, latent_size: int, width: int, blocks: int) -> None:
        super().__init__()
        self.smallest_size = 2 ** (blocks + 1)
        widths = [width * min(level, WIDEST) for level in range(1, blocks + 2)]
        self.first = nn.Conv2d(channels, width, 4, 2, 1)
        self.blocks = nn.Sequential(*map(_HalvingBlock, widths[:-1], widths[1:]))
        self.mean, self.log_variance = nn.Linear(widths[-1], latent_size), nn.Linear(widths[-1], latent_size)
        initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each [N, latent_size], of the latents of targets [N, Ct, H, W] in [-1, 1].

        Raises:
            RecipeError: the images are so small that a block would be left with a single pixel.
        """
        height, width = image.shape[2:]
        if min(height, width) < self.smallest_size:
            raise RecipeError(
                f"method.encoder_blocks: {len(self.blocks)} blocks take images from {self.smallest_size} pixels a side "
                f"on, and these are {height}x{width}; lower it, or set transform.load_size"
            )
        values = F.leaky_relu(self.blocks(self.first(image)), 0.2).mean(dim=(2, 3))
        return self.mean(values), self.log_variance(values)


class _HalvingBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.InstanceNorm2d(channels_in), nn.LeakyReLU(0.2), nn.Conv2d(channels_in, channels_in, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(channels_in), nn.LeakyReLU(0.2), nn.Conv2d(channels_in, channels, 3, 1, 1),
            nn.AvgPool2d(2),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels_in, channels, 1))

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = self.layers(values) + self.shortcut(values)
        return output
