"""The image pyramid that generator and discriminator work on."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def halved(image: Tensor) -> Tensor:
    """Images [N, C, H, W] at half their size: means of 3x3 pixels, of those that there are at the edges."""
    return F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
