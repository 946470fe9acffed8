"""Noise as a function of where it falls: the same in whatever tile, batch, process or device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LEVELS = 1 << 24
"""How finely a probability is resolved."""
IN_CACHE = 1 << 15
"""Values that are drawn at once on a CPU."""


def dropout_mask(probability: float, shape: Sequence[int], first: Tensor, seeds: Tensor) -> Tensor:
    """Which values of N images a dropout lets through, as booleans [N, *shape]; each is kept with 1 - ``probability``.

    An image's seed in ``seeds`` [N] chooses an endless plane of noise, its position in ``first`` [N, len(shape)] (both
    int32) where in that plane its first value lies; two windows of one plane agree where they overlap.
    """
    least = round(probability * LEVELS)
    return _by_place(shape, first, seeds, lambda levels: levels >= least)


def normal_noise(shape: Sequence[int], first: Tensor, seeds: Tensor) -> Tensor:
    """Values from N(0, 1) as float32 [N, *shape], by place as for :func:`dropout_mask`."""
    # by the inverse distribution function in float64: rounded, it is the same on every device
    device = seeds.device
    if device.type == "mps":  # which has no float64
        first, seeds = first.cpu(), seeds.cpu()
    drawn = _by_place(shape, first, seeds, lambda levels: torch.special.ndtri((levels.double() + 0.5) / LEVELS).float())
    return drawn.to(device) if device.type == "mps" else drawn


def _by_place(shape: Sequence[int], first: Tensor, seeds: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``of`` makes of a hash of each place, one of the LEVELS."""
    noise, count = seeds, len(seeds)
    *outer, inner = (
        first[:, axis, None] + torch.arange(length, dtype=torch.int32, device=seeds.device)
        for axis, length in enumerate(shape)
    )
    for axis, places in enumerate(outer):
        noise = _mixed(noise[..., None] + places.view(count, *[1] * axis, -1))

    if not outer or seeds.device.type != "cpu" or torch.compiler.is_compiling():
        places = inner.view(count, *[1] * len(outer), -1)
        return of(_mixed(noise[..., None] + places).bitwise_and_(LEVELS - 1)).view(count, *shape)
    # as many values at a time as stay in the processor's cache, which is six times as fast for large maps
    at_once = max(1, IN_CACHE // max(1, math.prod(shape[1:])))
    drawn = []
    for image, places in zip(noise, inner, strict=True):
        drawn += [of(_mixed(part[..., None] + places).bitwise_and_(LEVELS - 1)) for part in image.split(at_once)]
    return torch.cat(drawn).view(count, *shape)


def _mixed(values: Tensor) -> Tensor:
    """A hash of each of ``values`` (int32, changed in place): the integer mixer "lowbias32" by Chris Wellons, 2018."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - (1 << 32)), (16, 1)):
        # torch shifts signed numbers, so the sign's copies are masked away
        values.bitwise_xor_((values >> shift).bitwise_and_((1 << (32 - shift)) - 1)).mul_(factor)
    return values
