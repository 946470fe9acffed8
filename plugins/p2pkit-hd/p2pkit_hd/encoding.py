"""Label maps as pix2pixHD sees them: one channel a class, and one for boundaries (Wang et al. 2018, section 3.3)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from p2pkit.contracts import Resampling, ValueRange
from p2pkit.errors import RecipeError
from p2pkit.images.class_maps import class_colours, stored_values

INSTANCES = 1000
"""Cityscapes packs class c and instance i of it into c * 1000 + i."""


class ClassAndBoundary(nn.Module):
    """One channel a class, of 0 and 1, and one that is 1 where a neighbour is of another object.

    Sources of two channels hold class and instance. Sources of one channel are Cityscapes' instanceIds: a number below
    1000 is a class without instances; any other is that of an object, and its thousands are the class. Neighbours are
    the pixels to the left, right, above and below; the edge of the image is not a boundary. A pixel of any other class
    is 0 in all of the classes' channels; where they are many, and their number is not named as ``void``, that is
    refused before training.

    Args:
        classes: how many classes there are; 35 is the authors' number for Cityscapes.
        void: the number of pixels that belong to no class, such as 255.
    """

    resampling: Resampling = "nearest"

    def __init__(
        self, source_channels: int, source_range: ValueRange, classes: Annotated[int, Field(gt=0, le=65536)] = 35,
        void: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if source_channels > 2:
            raise RecipeError(
                "encoding: class_and_boundary takes sources of 1 channel (Cityscapes' instanceIds) or of 2 (class, "
                f"instance), and these have {source_channels}; turn colours into such numbers beforehand, or leave "
                "[encoding] out"
            )
        self.classes, self.channels, self.source_range = classes, classes + 1, source_range
        self.void = void

    def forward(self, source: Tensor) -> Tensor:
        """Sources [N, 1 or 2, H, W] in [-1, 1] to [N, classes + 1, H, W], of 0 and 1; the last is boundaries."""
        objects = stored_values(source, self.source_range)
        numbers = torch.arange(self.classes, device=source.device).view(1, -1, 1, 1)
        classes = (_classes(objects) == numbers).to(source.dtype)
        return torch.cat([classes, _boundaries(objects).to(source.dtype)], dim=1)

    def class_numbers(self, source: Tensor) -> Tensor:
        """The classes [N, H, W] of sources [N, 1 or 2, H, W] in [-1, 1]."""
        return _classes(stored_values(source, self.source_range))[:, 0]

    def picture(self, source: Tensor) -> Tensor:
        """Sources [N, 1 or 2, H, W] as [N, 3, H, W] in [-1, 1]: a colour a class, boundaries black."""
        objects = stored_values(source, self.source_range)
        return torch.where(_boundaries(objects) > 0, -1.0, class_colours(_classes(objects)[:, 0]))


def _classes(objects: Tensor) -> Tensor:
    """The classes [N, 1, H, W] of objects [N, 1 or 2, H, W]."""
    if objects.shape[1] == 2:
        return objects[:, :1]
    return torch.where(objects < INSTANCES, objects, torch.div(objects, INSTANCES, rounding_mode="floor"))


def _boundaries(objects: Tensor) -> Tensor:
    """1 where a pixel of [N, C, H, W] differs from any of its four neighbours, else 0; [N, 1, H, W]."""
    # as numbers, because not every format that models are exported to knows the maximum of booleans
    beside = (objects[:, :, :, 1:] != objects[:, :, :, :-1]).to(objects.dtype).amax(dim=1, keepdim=True)
    below = (objects[:, :, 1:] != objects[:, :, :-1]).to(objects.dtype).amax(dim=1, keepdim=True)
    left, right = F.pad(beside, (1, 0)), F.pad(beside, (0, 1))
    above, under = F.pad(below, (0, 0, 1, 0)), F.pad(below, (0, 0, 0, 1))
    return torch.maximum(torch.maximum(left, right), torch.maximum(above, under))
