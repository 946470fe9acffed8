"""Batches on their way from workers: in shared memory that is made once and used over and over.

Left to PyTorch each tensor gets a file of its own, whose pages the system clears and maps anew and whose descriptor
goes through a socket. Of a pair of 256x256 that takes as long as all else that is done to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

AHEAD = 2
"""How many batches a worker makes ahead (the DataLoader's ``prefetch_factor``)."""
PIECES = AHEAD + 1
"""Of memory that a worker takes by turns: it may begin another batch while the last one that was asked for is read."""


class Posted(NamedTuple):
    """What a worker sends of a batch: where its tensors lie, one after another, and what goes along with them."""

    worker: int
    piece: int
    memory: Tensor | None
    """The piece of memory where it is new; else it is known from an earlier batch."""
    shapes: Sequence[Sequence[int]]
    rest: Any


class Sender:
    """Puts the batches of a worker into its pieces of memory."""

    def __init__(self) -> None:
        self._pieces: list[Tensor] = [torch.empty(0)] * PIECES
        self._sent = 0

    def post(self, batch: Sequence[Sequence[Tensor]], rest: Any) -> Posted:
        """Images of one shape each, float32, to be stacked, and what goes along with them."""
        info, piece = get_worker_info(), self._sent % PIECES
        assert info is not None, "this process is not a worker"
        shapes = [(len(images), *images[0].shape) for images in batch]
        needed, memory = sum(map(math.prod, shapes)), self._pieces[piece]
        new = memory.numel() < needed
        if new:
            memory = self._pieces[piece] = torch.empty(needed)
            memory.share_memory_()  # type: ignore[no-untyped-call]
        for place, images in zip(_places(memory, shapes), batch, strict=True):
            torch.stack(tuple(images), out=place)
        self._sent += 1
        return Posted(info.id, piece, memory if new else None, shapes, rest)


class Receiver:
    """Takes out of shared memory what workers have put there, in the order in which a DataLoader gives it."""

    def __init__(self, pinned: bool) -> None:
        """``pinned``: tensors are in memory from where a GPU takes them by itself."""
        self._pinned, self._pieces = pinned, dict[tuple[int, int], Tensor]()

    def take(self, posted: Posted) -> list[Tensor]:
        """The tensors of a batch, which the worker does not touch any more.

        To be called before the DataLoader is asked for the next batch.
        """
        at = posted.worker, posted.piece
        memory = self._pieces[at] if posted.memory is None else posted.memory
        self._pieces[at] = memory
        places = _places(memory, posted.shapes)
        return [place.pin_memory() if self._pinned else place.clone() for place in places]


def _places(memory: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Views of a piece of memory as tensors of such shapes, one after another."""
    places, begin = [], 0
    for shape in shapes:
        end = begin + math.prod(shape)
        places.append(memory[begin:end].view(*shape))
        begin = end
    return places
