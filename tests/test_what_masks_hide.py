"""What stands where a mask is 0 has no part in what counts, however images are resized and moved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from p2pkit.components.catalogue import create
from p2pkit.networks.fitting import resize, resize_mask


def with_hidden(value: float) -> tuple[Tensor, Tensor]:
    """An image of 32x40 in [0, 1], with ``value`` where its mask, a rectangle and single pixels, is 0; and the mask."""
    random, mask = torch.Generator().manual_seed(3), torch.ones(1, 32, 40)
    mask[:, 8:20, 5:15] = mask[:, 25, 25] = mask[:, 31, 0] = 0
    return torch.where(mask > 0, torch.rand(3, 32, 40, generator=random), torch.tensor(value)), mask


@pytest.mark.parametrize("size", [(64, 80), (48, 60), (31, 41), (24, 30), (16, 20), (20, 80)])
def test_resizing(size: tuple[int, int]) -> None:
    (black, mask), (white, _) = (with_hidden(value) for value in (0.0, 1.0))
    counts = resize_mask(mask, size)
    assert torch.equal(resize(black, size) * counts, resize(white, size) * counts)
    assert 0.3 < counts.mean() < 1


@pytest.mark.parametrize("name", ["affine", "elastic"])
def test_moving(name: str) -> None:
    changes: dict[str, Any] = {"affine": {"rotation": 40.0, "scale": (0.6, 1.6)}, "elastic": {"magnitude": 0.1}}
    augment = create("augmentations", name, **changes[name])
    for seed in range(5):
        made = []
        for value in (0.0, 1.0):
            target, mask = with_hidden(value)
            torch.manual_seed(seed)
            made.append(augment(tv_tensors.Image(target), tv_tensors.Image(target), tv_tensors.Mask(mask)))
        (_, black, counts), (_, white, _) = made
        assert torch.equal(black * counts, white * counts) and 0.3 < counts.mean() < 1
