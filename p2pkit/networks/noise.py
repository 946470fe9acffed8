"""Dropout's noise as a function of where it falls: the same in whatever tile, batch, process or device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from p2pkit.utils.seeds import derived

LEVELS = 1 << 24
"""How finely a probability is resolved."""


def dropout_mask(
    probability: float, shape: Sequence[int], origin: Sequence[int], seed: int, device: torch.device
) -> Tensor:
    """Which values a dropout layer lets through, a boolean tensor of ``shape``; each is kept with 1 - ``probability``.

    ``origin`` is the position of the first value in an endless plane of noise, which ``seed`` chooses; two windows of
    that plane agree where they overlap.
    """
    *outer, inner = (
        torch.arange(first, first + length, dtype=torch.int32, device=device)
        for first, length in zip(origin, shape, strict=True)
    )
    noise = torch.tensor(derived(seed, "dropout") & 0x7FFFFFFF, dtype=torch.int32, device=device)
    for positions in outer:
        noise = _mixed(noise[..., None] + positions)
    values = torch.empty(tuple(shape), dtype=torch.bool, device=device)
    # a part at a time stays in the processor's cache, which is six times as fast
    for part, of_part in zip(values, noise, strict=True) if outer else ((values, noise),):
        drawn = _mixed(of_part[..., None] + inner).bitwise_and_(LEVELS - 1)
        torch.ge(drawn, round(probability * LEVELS), out=part)
    return values


def _mixed(values: Tensor) -> Tensor:
    """A hash of each of ``values`` (int32, changed in place): the integer mixer "lowbias32" by Chris Wellons, 2018."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - (1 << 32)), (16, 1)):
        # torch shifts signed numbers, so the sign's copies are masked away
        values.bitwise_xor_((values >> shift).bitwise_and_((1 << (32 - shift)) - 1)).mul_(factor)
    return values
