"""Bicubic resizing of an image on a CPU, of as much of it as a crop shows, by products of small matrices.

Each row and column of the result is a weighted sum of a few neighbouring ones. Taken a block at a time, such sums are
a product with a small dense matrix, which libraries compute several times as fast as PyTorch does those sums.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

BLOCK = 16
"""Rows or columns of the result that are computed together."""
LARGEST, SMALLEST_FACTOR = 1024, 0.4
"""From images of more pixels a side, and to less than this share of it, products take longer than sums."""


class Window(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def times(self, scale: int) -> Window:
        """The same part of an image that is ``scale`` times as high and wide."""
        return Window(scale * self.top, scale * self.left, scale * self.height, scale * self.width)

    def of(self, image: Tensor) -> Tensor:
        """That part of an image [..., H, W]."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


class _Block(NamedTuple):
    """Rows (or columns) of the result from ``begin`` to ``end``, of those of an image from ``first`` to ``last``."""

    begin: int
    end: int
    first: int
    last: int
    weights: Tensor
    """[rows of the result, rows of the image]"""


def bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [..., C, H, W] resized to ``size``, antialiased."""
    resized: Tensor = vision.resize(image, list(size), interpolation=vision.InterpolationMode.BICUBIC, antialias=True)
    return resized


def goes_by_products(image: Tensor, size: tuple[int, int]) -> bool:
    """Whether :func:`bicubic_window` takes such an image, and is the faster way."""
    if image.ndim != 3 or image.device.type != "cpu" or image.dtype != torch.float32 or image.requires_grad:
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    sides = zip(image.shape[1:], size, strict=True)
    return all(max(found, wanted) <= LARGEST and wanted >= SMALLEST_FACTOR * found for found, wanted in sides)


def bicubic_window(image: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """The ``window`` of what :func:`bicubic` makes of an image [C, H, W], but for the last bits.

    Those may depend on the number of threads.
    """
    channels, height, width = image.shape
    down = _blocks_within(height, size[0], window.top, window.height)
    across = _blocks_within(width, size[1], window.left, window.width)
    first, last = down[0].first, down[-1].last
    # rows with all their channels beside each other, so that both products are of large matrices
    lines = image[:, first:last].transpose(0, 1).reshape(-1, width)
    resized = lines.new_empty(len(lines), window.width)
    for begin, end, left, right, weights in across:
        torch.mm(lines[:, left:right], weights.t(), out=resized[:, begin:end])
    lines = resized.view(last - first, -1)
    resized = lines.new_empty(window.height, channels * window.width)
    for begin, end, top, bottom, weights in down:
        torch.mm(weights, lines[top - first : bottom - first], out=resized[begin:end])
    return resized.view(window.height, channels, window.width).transpose(0, 1).contiguous()


@lru_cache(maxsize=32)
def _blocks(length: int, resized: int) -> list[_Block]:
    """How rows of a result of so many come out of rows of an image, as the library computes them."""
    with torch.inference_mode(False), torch.no_grad():
        # the rows of an image that has 1 in another place of each are the weights themselves
        weights = bicubic(torch.eye(length, device="cpu")[None], (resized, length))[0]
        blocks = []
        for begin in range(0, resized, BLOCK):
            rows = weights[begin : begin + BLOCK]
            taken = rows.any(dim=0).nonzero().flatten()
            first, last = int(taken[0]), int(taken[-1]) + 1
            blocks.append(_Block(begin, begin + len(rows), first, last, rows[:, first:last].clone()))
    return blocks


@lru_cache(maxsize=256)  # crops of 256 of 286 pixels may begin at 31 places
def _blocks_within(length: int, resized: int, begin: int, count: int) -> list[_Block]:
    """What is needed of these for ``count`` rows of the result from ``begin`` on, counted from there."""
    found = []
    for block in _blocks(length, resized)[begin // BLOCK : (begin + count - 1) // BLOCK + 1]:
        top, bottom = max(begin, block.begin), min(begin + count, block.end)
        weights = block.weights[top - block.begin : bottom - block.begin]
        found.append(block._replace(begin=top - begin, end=bottom - begin, weights=weights))
    return found
