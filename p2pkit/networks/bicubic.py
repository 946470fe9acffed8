"""Bicubic resizing of an image on a CPU, of as much of it as a crop shows, by the fastest sums that PyTorch has.

Each row and column of the result is a weighted sum of a few neighbouring ones. Of whole rows that is what sums up the
vectors of an embedding. Columns a block at a time are a product with a small dense matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

BLOCK = 16
"""Columns of the result that are one product."""
MOST_BLOCKS = 16
"""In one call. The more of them begin at equal distances, the more columns each takes for nothing."""
FEW_CHANNELS = 8
"""Of which tables of sums are kept: each takes 14 kB a channel for 256 rows, and a twentieth of the resizing's time."""
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


class _Blocks(NamedTuple):
    """Columns of the result, block by block, each of as many columns of an image as the others."""

    first: int
    """The column of the image with which the first block begins."""
    step: int
    """By how many columns the next block begins further on."""
    weights: Tensor
    """[blocks, BLOCK, columns of the image]; columns of the last block that the result does not have are 0."""


class _Sums(NamedTuple):
    """Rows of the result as weighted sums of rows of an image, channel after channel."""

    first: int
    """The row of a channel from which on they are counted."""
    last: int
    """The one behind the last that is taken."""
    rows: Tensor
    """Those that are taken for the first row of the result, for the second one, and so on, one after another."""
    begins: Tensor
    """[rows of the result]: where among these its own begin."""
    weights: Tensor
    """Of each of these."""


class _Weights(NamedTuple):
    """Of each row (or column) of a result, for as many rows of an image."""

    first: NDArray[np.int64]
    """[rows of the result]: the first row of the image that is taken."""
    each: NDArray[np.float32]
    """[rows of the result, rows that are taken]"""


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
    sums = _kept_sums if channels <= FEW_CHANNELS else _sums
    down = sums(height, size[0], window.top, window.height, channels)
    across = _blocks(width, size[1], window.left, window.width)
    lines = image[:, down.first : down.last].contiguous().view(-1, width)
    resized = lines.new_empty(len(lines), sum(_counts(across)))
    for blocks, place in zip(across, torch.split(resized, _counts(across), dim=1), strict=True):
        count, _, taken = blocks.weights.shape
        begin = lines.storage_offset() + blocks.first
        columns = lines.as_strided((count, len(lines), taken), (blocks.step, width, 1), begin)
        products = torch.bmm(columns, blocks.weights.transpose(1, 2))
        place.view(len(lines), count, BLOCK).copy_(products.transpose(0, 1))
    result = F.embedding_bag(down.rows, resized, down.begins, mode="sum", per_sample_weights=down.weights)
    return result.view(channels, window.height, -1)[..., : window.width]


def _counts(blocks: Sequence[_Blocks]) -> list[int]:
    """Columns of the result in each call, with those that the last block has too many."""
    return [len(each.weights) * BLOCK for each in blocks]


def _sums(length: int, resized: int, begin: int, count: int, channels: int) -> _Sums:
    """How ``count`` rows of a result of so many, from ``begin`` on, are summed up of ``length`` rows of an image."""
    weights = _weights(length, resized)
    firsts, each = weights.first[begin : begin + count], weights.each[begin : begin + count]
    taps = each.shape[1]
    first, last = int(firsts[0]), int(firsts[-1]) + taps
    channel, tap = np.arange(channels)[:, None, None], np.arange(taps)
    rows, begins = channel * (last - first) + firsts[:, None] - first + tap, np.arange(channels * count) * taps
    return _Sums(first, last, *map(torch.from_numpy, (rows.ravel(), begins, np.tile(each.ravel(), channels))))


_kept_sums = lru_cache(maxsize=64)(_sums)


@lru_cache(maxsize=1024)  # crops of 256 of 286 pixels may begin at 31 places
def _blocks(length: int, resized: int, begin: int, count: int) -> list[_Blocks]:
    """How ``count`` columns of a result of so many, from ``begin`` on, come out of an image's ``length`` columns."""
    weights, whole = _weights(length, resized), count // BLOCK * BLOCK
    # a last one of fewer columns is not in step with the others
    parts = [*range(0, whole, MOST_BLOCKS * BLOCK), whole, *([count] if whole < count else [])]
    return [_in_step(weights, length, begin + start, begin + end) for start, end in pairwise(parts)]


def _in_step(weights: _Weights, length: int, start: int, end: int) -> _Blocks:
    """Blocks of the columns of the result from ``start`` to ``end`` that begin at equal distances."""
    firsts, taps = weights.first[start:end], weights.each.shape[1]
    count = math.ceil(len(firsts) / BLOCK)
    begins, ends = firsts[::BLOCK].tolist(), [*(firsts[BLOCK - 1 :: BLOCK] + taps).tolist(), int(firsts[-1]) + taps]
    step = (begins[-1] - begins[0]) // max(1, count - 1)
    while True:
        first = min(begin - block * step for block, begin in enumerate(begins))
        rows = max(end - block * step for block, end in enumerate(ends[:count])) - first
        # some may reach beyond the image's edges: then all begin nearer to each other
        if first >= 0 and first + step * (count - 1) + rows <= length:
            break
        step -= 1
    found, row = np.zeros((count * BLOCK, rows), np.float32), np.arange(len(firsts))
    places = (firsts - first - row // BLOCK * step)[:, None] + np.arange(taps)
    found[row[:, None], places] = weights.each[start:end]
    return _Blocks(first, step, torch.from_numpy(found).view(count, BLOCK, rows))


@lru_cache(maxsize=64)
def _weights(length: int, resized: int) -> _Weights:
    """Those by which rows of a result of so many are summed up of rows of an image, as the library has them."""
    with torch.inference_mode(False), torch.no_grad():
        # the rows of an image that has 1 in another place of each are the weights themselves
        rows = torch.eye(length, dtype=torch.float32, device="cpu")
        every = bicubic(rows[None], (resized, length))[0].numpy()
    first, last = (every != 0).argmax(axis=1), length - (every[:, ::-1] != 0).argmax(axis=1)
    # weights of exactly 0 at either end of a row's must not let it begin after the next one
    first = np.minimum.accumulate(first[::-1])[::-1]
    taps = int((last - first).max())
    first = np.minimum(first, length - taps)
    return _Weights(first, np.take_along_axis(every, first[:, None] + np.arange(taps), axis=1))
