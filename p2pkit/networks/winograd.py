"""Convolutions of stride 1 with a quarter of the multiplications (Lavin and Gray 2016, after Winograd 1980).

A map is cut into overlapping tiles of 6x6 pixels, each of which gives 4x4 pixels of a 3x3 convolution or 3x3 of a 4x4
one. Tiles and kernels are evaluated at the same 36 points, multiplied there, and the products are interpolated: 36
multiplications for each pair of channels, where the plain sum has 144. This is exact arithmetic; in float32 it rounds
as a plain convolution does, by about 2e-6 of the output's standard deviation. The sums over channels are a product of
matrices for each point, which a CPU computes at its full rate.

Within, channels come last, so that whatever is copied is whole rows of channels.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

KERNELS = (3, 4)
"""The sides of kernels that the tiles are large enough for."""
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
"""And infinity. Of the small numbers these round least, for either kernel."""
TILE = len(POINTS) + 1
"""Pixels along its side."""
MOST_TILES = 512
"""That are computed at once. More would leave the processor's caches, and take memory for nothing."""


def convolve(images: Tensor, weight: Tensor, padding: int) -> Tensor:
    """What conv2d gives with stride 1 for square kernels of one of the sides KERNELS, in float32 on a CPU."""
    output: Tensor = _Convolution.apply(images, weight, padding)
    return output


@dataclass(frozen=True)
class _Matrices:
    """Of both axes at once: each is the Kronecker product of a matrix with itself."""

    tile: Tensor
    """(36, 36): a tile's values at the points."""
    kernel: Tensor
    """(36, side**2): a kernel's values at the points."""
    output: Tensor
    """((7 - side)**2, 36): what products of these interpolate to."""


@functools.cache
def _matrices(kernel: int) -> _Matrices:
    """By Toom and Cook's construction. A point's factor is shared between tile and kernel, so that both round alike."""
    points = np.array(POINTS)
    tile, kernels = np.zeros((TILE, TILE)), np.zeros((TILE, kernel))
    output = np.zeros((TILE + 1 - kernel, TILE))
    for index, point in enumerate(points):
        others = np.delete(points, index)
        tile[index, :-1] = np.poly(others)[::-1]  # the coefficients of the product of all (x - other)
        kernels[index] = point ** np.arange(kernel) / np.prod(point - others)
        output[:, index] = point ** np.arange(len(output))
    tile[-1] = np.poly(points)[::-1]
    kernels[-1, -1] = output[-1, -1] = 1
    factor = np.sqrt(np.abs(tile).max(axis=1) / np.abs(kernels).max(axis=1))[:, None]
    both = (np.float32(np.kron(each, each)) for each in (tile / factor, kernels * factor, output))
    return _Matrices(*map(torch.from_numpy, both))


class _Scratch(threading.local):
    """Memory by purpose, kept from call to call: what is allocated anew is mapped anew, page by page."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    def __call__(self, purpose: str, *shape: int) -> Tensor:
        """A tensor of ``shape`` with anything in it, until the next call for the same purpose."""
        size = math.prod(shape)
        if purpose not in self.held or len(self.held[purpose]) < size:
            with torch.inference_mode(False):  # what is made in that mode cannot be written to outside of it
                self.held[purpose] = torch.empty(size, dtype=torch.float32, device="cpu")
        return self.held[purpose][:size].view(shape)


_scratch = _Scratch()


@dataclass(frozen=True)
class _Block:
    """Tiles that are computed at once: those of some rows of some images. Channels come last in all that it gives."""

    images: slice
    row: int
    tiles: tuple[int, int, int]
    """Images, rows and columns."""
    kernel: int
    padding: int

    @property
    def step(self) -> int:
        """Pixels of the output along the side of a tile."""
        return TILE + 1 - self.kernel

    def values(self, maps: Tensor) -> Tensor:
        """Of the tiles of ``maps``, the convolution's input, at the points: (36, tiles, channels)."""
        part = self._cut(maps, self.padding, self.kernel - 1)
        image, row, column, channel = part.stride()
        strides = (row, column, image, self.step * row, self.step * column, channel)
        tiles = part.as_strided((TILE, TILE, *self.tiles, part.shape[3]), strides)
        return _multiply(_matrices(self.kernel).tile, tiles, "values")

    def slopes(self, maps: Tensor) -> Tensor:
        """Of the products at the points, (36, tiles, channels), from ``maps``, the slope of the output."""
        part = self._cut(maps, 0, 0)
        count, rows, columns = self.tiles
        parts = part.view(count, rows, self.step, columns, self.step, -1).permute(2, 4, 0, 1, 3, 5)
        return _multiply(_matrices(self.kernel).output.t(), parts, "products")

    def put(self, products: Tensor, maps: Tensor) -> None:
        """Interpolate ``products`` (36, tiles, channels), and put them in their place in ``maps``, the output."""
        parts = _multiply(_matrices(self.kernel).output, products, "tiles")
        parts = parts.view(self.step, self.step, *self.tiles, -1).permute(2, 3, 0, 4, 1, 5)
        count, rows, columns = self.tiles
        part = _scratch("part", count, rows * self.step, columns * self.step, parts.shape[-1])
        part.view(parts.shape).copy_(parts)
        theirs, own = self._overlap(maps, part, 0)
        maps[self.images].permute(0, 2, 3, 1)[theirs] = part[own]

    def add(self, slopes: Tensor, maps: Tensor) -> None:
        """Add what ``slopes`` of the values (36, tiles, channels) come to in ``maps``, the slope of the input."""
        tiles = _multiply(_matrices(self.kernel).tile.t(), slopes, "tiles").view(TILE, TILE, *self.tiles, -1)
        (count, rows, columns), step = self.tiles, self.step
        part = _scratch("part", count, (rows + 1) * step, (columns + 1) * step, tiles.shape[-1]).zero_()
        steps = part.view(count, rows + 1, step, columns + 1, step, -1)
        for down, right in itertools.product((0, 1), repeat=2):  # a tile reaches into the next one, and no farther
            piece = tiles[down * step : (down + 1) * step, right * step : (right + 1) * step]
            height, width = piece.shape[:2]
            steps[:, down : down + rows, :height, right : right + columns, :width] += piece.permute(2, 3, 0, 4, 1, 5)
        theirs, own = self._overlap(maps, part, self.padding)
        maps[self.images].permute(0, 2, 3, 1)[theirs] += part[own]

    def _cut(self, maps: Tensor, padding: int, more: int) -> Tensor:
        """Its part of ``maps``, 0 where they have none; it begins ``padding`` pixels before, and is ``more`` longer."""
        count, rows, columns = self.tiles
        part = _scratch("part", count, rows * self.step + more, columns * self.step + more, maps.shape[1]).zero_()
        theirs, own = self._overlap(maps, part, padding)
        part[own] = maps[self.images].permute(0, 2, 3, 1)[theirs]
        return part

    def _overlap(self, maps: Tensor, part: Tensor, padding: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What ``maps`` and a part of them have in common, as places in either."""
        theirs, own = [slice(None)], [slice(None)]
        for start, side, length in zip((self.row * self.step, 0), maps.shape[2:], part.shape[1:3], strict=True):
            first, last = max(start - padding, 0), min(start - padding + length, side)
            theirs.append(slice(first, last))
            own.append(slice(first - start + padding, last - start + padding))
        return tuple(theirs), tuple(own)


def _multiply(matrix: Tensor, parts: Tensor, purpose: str) -> Tensor:
    """The product with ``parts``, whose channels are last, laid out as (rows of the matrix, tiles, channels)."""
    if not parts.is_contiguous():
        parts = _scratch("tiles", *parts.shape).copy_(parts)
    columns = parts.view(matrix.shape[1], -1)
    product = torch.mm(matrix, columns, out=_scratch(purpose, len(matrix), columns.shape[1]))
    return product.view(len(matrix), -1, parts.shape[-1])


def _blocks(output: Tensor, kernel: int, padding: int) -> Iterator[_Block]:
    """All tiles of a convolution with this output, block by block."""
    count, _, height, width = output.shape
    step = TILE + 1 - kernel
    rows, columns = math.ceil(height / step), math.ceil(width / step)
    images_at_once, rows_at_once = max(1, MOST_TILES // (rows * columns)), max(1, MOST_TILES // columns)
    for image in range(0, count, images_at_once):
        images = slice(image, min(count, image + images_at_once))
        for row in range(0, rows, rows_at_once):
            tiles = images.stop - image, min(rows - row, rows_at_once), columns
            yield _Block(images, row, tiles, kernel, padding)


def _values_of(weight: Tensor) -> Tensor:
    """Of kernels at the points: (36, channels of the output, channels)."""
    matrix = _matrices(weight.shape[2]).kernel
    return (matrix @ weight.reshape(-1, matrix.shape[1]).t()).view(-1, *weight.shape[:2])


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int) -> Tensor:
        kernels = _values_of(weight)
        ctx.save_for_backward(images, weight, kernels)
        ctx.padding = padding
        sides = [side + 2 * padding + 1 - weight.shape[2] for side in images.shape[2:]]
        shape = len(images), len(weight), *sides
        output = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=_layout(images))
        for block in _blocks(output, weight.shape[2], padding):
            products = _product(block.values(images), kernels.transpose(1, 2), "products")
            block.put(products, output)
        return output

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (images, weight, kernels), padding = ctx.saved_tensors, ctx.padding
        if torch.is_grad_enabled():  # a gradient of this gradient is to follow
            plain = (None, (1, 1), (padding, padding), (1, 1), False, (0, 0), 1, (*ctx.needs_input_grad[:2], False))
            return *torch.ops.aten.convolution_backward(slope, images, weight, *plain)[:2], None
        of_images = torch.zeros_like(images, memory_format=_layout(images)) if ctx.needs_input_grad[0] else None
        of_kernels = None
        for block in _blocks(slope, weight.shape[2], padding):
            slopes = block.slopes(slope)
            if ctx.needs_input_grad[1]:
                of_kernels = _add_product(slopes.transpose(1, 2), block.values(images), of_kernels)
            if of_images is not None:
                block.add(_product(slopes, kernels, "values"), of_images)
        if of_kernels is None:
            return of_images, None, None
        of_weight = of_kernels.view(len(of_kernels), -1).t() @ _matrices(weight.shape[2]).kernel
        return of_images, of_weight.view_as(weight), None


def _product(left: Tensor, right: Tensor, purpose: str) -> Tensor:
    return torch.bmm(left, right, out=_scratch(purpose, *left.shape[:2], right.shape[2]))


def _add_product(left: Tensor, right: Tensor, total: Tensor | None) -> Tensor:
    return _product(left, right, "slopes of kernels") if total is None else total.baddbmm_(left, right)


def _layout(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
