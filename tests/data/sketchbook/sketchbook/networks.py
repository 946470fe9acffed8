"""Discriminators that are not the same in training and in evaluation."""

import torch
from torch import nn


class Augmenting(nn.Module):
    """In training it sees images flipped at random, and looks at what it has drawn to know which."""

    def __init__(self, source_channels, target_channels, width=8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(source_channels + target_channels, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 1, 3)
        )

    def forward(self, source, image):
        seen = torch.cat([source, image], dim=1)
        if self.training and bool(torch.rand((), device=seen.device) < 0.5):
            seen = seen.flip(-1)
        return self.layers(seen)


class Blind(nn.Module):
    """It does not look at the image."""

    def __init__(self, source_channels, target_channels):
        super().__init__()
        self.layer = nn.Conv2d(source_channels, 1, 3)

    def forward(self, source, image):
        return self.layer(source) + 0 * image.detach().mean()


class Lazy(nn.Module):
    """A layer that learns its channels from what it is given first."""

    def __init__(self, source_channels, target_channels):
        super().__init__()
        self.logits = nn.LazyConv2d(1, 3)

    def forward(self, source, image):
        return self.logits(torch.cat([source, image], dim=1))
