"""Sample grids: a row an example, source | output | target, to look at while a model trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from p2pkit.images.pixels import from_unit


def sample_grid(rows: Sequence[Sequence[Tensor]], gap: int = 4) -> NDArray[np.uint8]:
    """A picture [H, W, 3] uint8 of rows of tensors [C, H, W] in [-1, 1], white between them.

    The tensors of a row have one size; rows of different sizes are put below one another, widened to the widest.
    """
    strips = [make_grid([as_rgb(image) for image in row], nrow=len(row), padding=gap, pad_value=1.0) for row in rows]
    width = max(strip.shape[2] for strip in strips)
    widened = [torch.nn.functional.pad(strip, (0, width - strip.shape[2]), value=1.0) for strip in strips]
    return from_unit(torch.cat(widened, dim=1), np.dtype(np.uint8))


def as_rgb(image: Tensor) -> Tensor:
    """An image [C, H, W] with any number of channels as [3, H, W]: gray is repeated, the first three stand for more."""
    image = image.detach().cpu().float()
    return image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
