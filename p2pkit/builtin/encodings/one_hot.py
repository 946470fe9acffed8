"""Class maps, one channel a class: numbers of classes are names, and nothing lies between two of them."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.contracts import Resampling, ValueRange
from p2pkit.errors import RecipeError
from p2pkit.images.class_maps import class_colours, stored_values


class OneHot(nn.Module):
    """The class of each pixel, a number from 0 on in a source of one channel, as one channel a class, of 0 and 1.

    A pixel of any other number is 0 in all of them. The number that means "of no class" is named as ``void``; pixels
    of others are counted before training, and refused where they are many.

    Args:
        classes: how many classes there are.
        void: the number of pixels that belong to no class, such as 255.
    """

    resampling: Resampling = "nearest"

    def __init__(
        self, source_channels: int, source_range: ValueRange, classes: Annotated[int, Field(gt=0, le=65536)],
        void: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if source_channels != 1:
            raise RecipeError(
                f"encoding: one_hot takes class maps of 1 channel, and the sources have {source_channels}; of gray "
                'saved as colours write channels = "gray" below [source], turn colours into numbers of classes '
                "beforehand, or leave [encoding] out"
            )
        low, high = source_range
        if low > 0 or high < classes - 1:
            raise ValueError(
                f"classes are numbers from 0 to {classes - 1}, but the sources' values are clipped to {low:g} to "
                f"{high:g}; leave source.range and source.percentiles out"
            )
        self.channels, self.source_range = classes, source_range
        self.classes, self.void = classes, void

    def forward(self, source: Tensor) -> Tensor:
        """Sources [N, 1, H, W] in [-1, 1] to [N, classes, H, W]."""
        numbers = torch.arange(self.channels, device=source.device).view(1, -1, 1, 1)
        return (stored_values(source, self.source_range) == numbers).to(source.dtype)

    def class_numbers(self, source: Tensor) -> Tensor:
        """Sources [N, 1, H, W] in [-1, 1] as the numbers [N, H, W] that stand in them."""
        return stored_values(source, self.source_range)[:, 0]

    def picture(self, source: Tensor) -> Tensor:
        """Sources [N, 1, H, W] as [N, 3, H, W] in [-1, 1], a colour a class."""
        return class_colours(self.class_numbers(source))
