"""Fitting images to a network: resizing, and the sizes that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as vision

from p2pkit.contracts import Resampling, SizedGenerator
from p2pkit.errors import DataError
from p2pkit.networks.bicubic import Window, bicubic, bicubic_window, goes_by_products

CUBIC_REACH = 2.0
"""Bicubic interpolation takes pixels less than so many pixels away; where it makes images smaller, of the result's."""


def fitting_size(generator: nn.Module, size: Sequence[int]) -> tuple[int, int]:
    """The smallest (height, width) not below ``size`` that ``generator`` takes."""
    if not isinstance(generator, SizedGenerator):
        return size[0], size[1]
    multiple, smallest = generator.size_multiple, generator.smallest_size
    height, width = max(size[0], smallest), max(size[1], smallest)
    return math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple


def reflected(image: Tensor, rows: int, columns: int) -> Tensor:
    """Images [N, C, H, W] continued by reflection, evenly on all sides and as often as needed, to rows x columns."""
    # by indices, because torch reflects no further than the image is wide
    for axis, size in ((2, rows), (3, columns)):
        side = image.shape[axis]
        period = torch.full((1,), 2 * side - 2, dtype=torch.int64).clamp(min=1)
        place = (torch.arange(size) - (size - side) // 2).remainder(period)
        image = image.index_select(axis, torch.minimum(place, period - place).to(image.device))
    return image


def refuse_unfitting(generator: nn.Module, size: Sequence[int], key: str) -> None:
    """Raise DataError, beginning with ``key``, when ``generator`` does not take images of (height, width)."""
    height, width = size
    if not isinstance(generator, SizedGenerator):
        return
    multiple, smallest = generator.size_multiple, generator.smallest_size
    if height % multiple or width % multiple or min(height, width) < smallest:
        follow = getattr(generator, "defaults_for", None)
        why = f"; it takes multiples of {multiple}, from {smallest} on"
        if follow is not None and not follow((height, width)):
            names = " and ".join(follow((256, 256)))  # of any size
            why = f"; with its {names} it takes multiples of {multiple}, and no other {names} is right for that size"
        wrong, remedy = "is not a size that the generator takes", _remedy(generator, (height, width))
        raise DataError(f"{key}: {height}x{width} (height x width) {wrong}{why}. Set {remedy}")


def _remedy(generator: SizedGenerator, size: tuple[int, int]) -> str:
    """The keys, with their values, by which a generator takes images of (height, width), or crops of them."""
    found = size
    multiple, smallest, parameters = generator.size_multiple, generator.smallest_size, dict[str, Any]()
    follow: Callable[[tuple[int, int]], Mapping[str, Any]] | None = getattr(generator, "defaults_for", None)
    fitting = size[0] // multiple * multiple, size[1] // multiple * multiple
    if follow is not None:
        if not follow(size):
            height, width = (next((less for less in range(side, 0, -1) if follow((less, less))), 0) for side in size)
            size = height, width
        parameters, fitting = dict(follow(size)), size
        smallest = smallest if 0 in size else 1
    keys = [f"generator.{name} = {value}" for name, value in parameters.items()]
    if min(fitting) < smallest:
        keys = [f"transform.{name} = {smallest}" for name in ("load_size", "crop_size")]
    elif fitting != found:
        keys.insert(0, f"transform.crop_size = {as_size(fitting)}")
    return " and ".join(keys)


def as_size(size: tuple[int, int]) -> str:
    """A size, (height, width), as recipes have it: one number where both are the same."""
    return str(size[0] if size[0] == size[1] else list(size))


def resize(
    image: Tensor, size: tuple[int, int], resampling: Resampling = "bicubic", window: Window | None = None
) -> Tensor:
    """Images [..., C, H, W] in [-1, 1] at ``size``, (height, width); bicubic is antialiased, and clamped to [-1, 1].

    With a ``window`` only that part of the result, whose last bits may then depend on the number of threads.
    """
    if tuple(image.shape[-2:]) == size:
        return image if window is None else window.of(image)
    if window is not None and resampling == "bicubic" and goes_by_products(image, size):
        resized = bicubic_window(image, size, window)
    else:
        nearest = vision.InterpolationMode.NEAREST_EXACT
        whole = bicubic(image, size) if resampling == "bicubic" else vision.resize(image, list(size), nearest)
        resized = whole if window is None else window.of(whole)
    # bicubic overshoots at edges, and [-1, 1] is the contract
    return resized.clamp_(-1.0, 1.0)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Weights [..., 1, H, W] from 0 to 1 at ``size``, (height, width).

    A pixel has no weight as soon as one without weight takes part in it: its value may be anything.
    """
    if tuple(mask.shape[-2:]) == size:
        return mask
    factors = (max(1.0, found / wanted) for found, wanted in zip(mask.shape[-2:], size, strict=True))
    whole = far_from_nothing(mask, [CUBIC_REACH * factor for factor in factors])
    resized: Tensor = vision.resize(mask, list(size), interpolation=vision.InterpolationMode.BILINEAR, antialias=True)
    return resized.clamp_(0.0, 1.0) * resize(whole, size, "nearest")


def far_from_nothing(mask: Tensor, reach: Sequence[float]) -> Tensor:
    """1 where no pixel of weights [..., 1, H, W] without weight lies within ``reach`` (rows, columns), else 0.

    It is of all places up to half a pixel around each pixel, so that its nearest neighbour may be taken anywhere. (A
    bicubic image of where weights are would not do: its kernel has negative parts.)
    """
    nothing = (mask <= 0).float().reshape(-1, 1, *mask.shape[-2:])
    down, right = (int(pixels + 0.5) for pixels in reach)
    # one axis after the other, which is faster than both at once
    nothing = F.max_pool2d(nothing, (2 * down + 1, 1), stride=1, padding=(down, 0))
    nothing = F.max_pool2d(nothing, (1, 2 * right + 1), stride=1, padding=(0, right))
    return 1 - nothing.reshape(mask.shape)
