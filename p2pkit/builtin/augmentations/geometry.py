"""Augmentations that move pixels, those of all images alike. Label maps and masks are resampled to the nearest pixel.

What is moved in from beyond an edge is the image reflected at it, so that no border of a colour of its own appears.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, radians, sin, tan
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from p2pkit.networks.fitting import CUBIC_REACH, far_from_nothing

Probability = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0.1, lt=10)]


def flip(horizontal: Probability = 0.5, vertical: Probability = 0.0) -> v2.Transform:
    """Mirror at random.

    Args:
        horizontal: the probability of left becoming right.
        vertical: the probability of up becoming down.
    """
    return v2.Compose([v2.RandomHorizontalFlip(horizontal), v2.RandomVerticalFlip(vertical)])


class Rotate90:
    """Turn by 0, 90, 180 or 270 degrees, all equally likely. What is not square turns by 0 or 180, to keep its size."""

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Sequence[Any]:
        """Images [C, H, W], turned alike."""
        turns = int(torch.randint(4, ()))
        if target.shape[-2] != target.shape[-1]:
            turns -= turns % 2
        return _of_all(lambda image: image.rot90(turns, (-2, -1)), source, target, *mask)


class Affine:
    """Turn, shift, scale and shear at random, each evenly between its limits.

    Args:
        rotation: at most so many degrees, either way.
        translate: at most so much of the height and of the width.
        scale: between these two factors.
        shear: at most so many degrees.
    """

    def __init__(
        self,
        rotation: Annotated[float, Field(ge=0, le=180)] = 10.0,
        translate: Annotated[float, Field(ge=0, lt=1)] = 0.05,
        scale: tuple[Scale, Scale] = (0.9, 1.1),
        shear: Annotated[float, Field(ge=0, lt=80)] = 5.0,
    ) -> None:
        if scale[0] > scale[1]:
            raise ValueError(f"scale is from {scale[0]:g} to {scale[1]:g}; the smaller factor comes first")
        self.rotation, self.translate, self.scale, self.shear = rotation, translate, scale, shear

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Sequence[Any]:
        """Images [C, H, W], moved alike."""
        turn, slope, right, down = (torch.rand(4) * 2 - 1).tolist()
        scale = self.scale[0] + float(torch.rand(())) * (self.scale[1] - self.scale[0])
        angle, shear = radians(self.rotation) * turn, tan(radians(self.shear) * slope)
        rotation = torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
        matrix = scale * rotation @ torch.tensor([[1.0, shear], [0.0, 1.0]])
        back = torch.linalg.inv(matrix).T

        def places(image: Tensor) -> Tensor:
            # in pixels, where a right angle is one, and from the result back to the image
            half = torch.tensor([image.shape[-1], image.shape[-2]]) / 2
            shift = 2 * half * self.translate * torch.tensor([right, down])
            moved: Tensor = (_places(image) * half - shift) @ back / half
            return moved

        return _all_moved(places, source, target, *mask)


class Elastic:
    """Distort smoothly: points of a coarse grid are displaced at random, and all between them with them.

    Ronneberger et al. 2015, section 3.1.

    Args:
        magnitude: the standard deviation of a point's displacement, as a fraction of the shorter side.
        points: points of the grid along each side, from edge to edge.
    """

    def __init__(
        self,
        magnitude: Annotated[float, Field(ge=0, le=0.5)] = 0.02,
        points: Annotated[int, Field(ge=2, le=64)] = 4,
    ) -> None:
        self.magnitude, self.points = magnitude, points

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Sequence[Any]:
        """Images [C, H, W], distorted alike."""
        drawn = torch.randn(1, 2, self.points, self.points)

        def places(image: Tensor) -> Tensor:
            height, width = image.shape[-2:]
            coarse = drawn * self.magnitude * min(height, width)
            displacements = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).movedim(1, -1)
            return _places(image) + displacements / (torch.tensor([width, height]) / 2)

        return _all_moved(places, source, target, *mask)


def _places(image: Tensor) -> Tensor:
    """Where each pixel of an image [C, H, W] is: [1, H, W, 2], x and y from -1 to 1 between the image's edges."""
    return F.affine_grid(torch.eye(2, 3)[None], [1, 1, *image.shape[-2:]], align_corners=False)


def _moved(image: Tensor, places: Tensor) -> Tensor:
    """The values of an image [C, H, W] at ``places`` [1, H, W, 2]."""
    mode = "nearest" if isinstance(image, tv_tensors.Mask) else "bicubic"
    plain = image.as_subclass(Tensor)[None]
    return F.grid_sample(plain, places, mode, padding_mode="reflection", align_corners=False)[0]


def _all_moved(places: Callable[[Tensor], Tensor], source: Any, target: Tensor, *mask: Tensor) -> Sequence[Any]:
    """Images at the ``places`` of each, [1, H, W, 2]; a pixel that one without weight takes part in has none."""
    moved = _of_all(lambda image: _moved(image, places(image)), source, target)
    for weights in mask:
        at, plain = places(weights), weights.as_subclass(Tensor)
        whole = far_from_nothing(plain, (CUBIC_REACH, CUBIC_REACH))
        moved = *moved, _moved(tv_tensors.Mask(plain * whole), at)
    return moved


def _of_all(change: Callable[[Tensor], Tensor], source: Any, *others: Tensor) -> tuple[Any, ...]:
    """What ``change`` makes of each image; several sources are a dict."""
    made = {name: change(image) for name, image in source.items()} if isinstance(source, dict) else change(source)
    return made, *map(change, others)
