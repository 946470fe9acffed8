"""Label maps: the numbers that stand in them, and pictures of these."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from p2pkit.contracts import ValueRange

GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


def stored_values(source: Tensor, values: ValueRange) -> Tensor:
    """The whole numbers of which a tensor in [-1, 1] was made, -1 and 1 being the range ``values``.

    They are exact for pixels of up to 16 bits that were not resampled by averaging.
    """
    low, high = values
    return ((source.float() + 1.0) * ((high - low) / 2.0) + low).round()


def class_colours(classes: Tensor) -> Tensor:
    """Numbers [N, H, W] as pictures [N, 3, H, W] in [-1, 1]: neighbouring numbers get hues far apart."""
    hue = (classes / GOLDEN_RATIO).frac()
    # the three cosines of a colour wheel, a third of a turn apart
    return torch.stack([torch.cos(2 * math.pi * (hue + third / 3)) for third in range(3)], dim=1)
