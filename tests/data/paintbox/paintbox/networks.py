"""A generator, a discriminator, and what both see of a source."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.contracts import DiscriminatorOutput, Resampling


class Brush(nn.Module):
    """One stroke.

    Args:
        size: of the brush, in pixels; odd.
        noise: how much of what is painted is left out at random.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        size: Annotated[int, Field(ge=1, le=31, multiple_of=1)] = 5,
        noise: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    ) -> None:
        super().__init__()
        if size % 2 == 0:
            raise ValueError(f"a brush has a middle: size {size} is even")
        self.stroke = nn.Conv2d(source_channels, target_channels, size, padding=size // 2)
        self.dropout = nn.Dropout(noise)

    def forward(self, source: Tensor) -> Tensor:
        return torch.tanh(self.stroke(self.dropout(source)))


class Critic(nn.Module):
    """Logits at two scales."""

    def __init__(self, source_channels: int, target_channels: int, width: Annotated[int, Field(gt=0)] = 4) -> None:
        super().__init__()
        self.scales = nn.Conv2d(source_channels + target_channels, width, 3, stride=2)
        self.logits = nn.Conv2d(width, 1, 1)

    def forward(self, source: Tensor, image: Tensor) -> DiscriminatorOutput:
        seen = torch.cat([source, image], dim=1)
        return DiscriminatorOutput([self.logits(self.scales(part).relu()) for part in (seen, seen[:, :, ::2, ::2])], [])


class Thermometer(nn.Module):
    """For each of some thresholds, whether a value is above it."""

    resampling: Resampling = "bicubic"

    def __init__(self, source_channels: int, thresholds: tuple[float, ...] = (-0.5, 0.0, 0.5)) -> None:
        super().__init__()
        self.thresholds, self.channels = thresholds, source_channels * len(thresholds)

    def forward(self, source: Tensor) -> Tensor:
        return torch.cat([(source > threshold).to(source.dtype) for threshold in self.thresholds], dim=1)
