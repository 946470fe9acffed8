"""Work that overlaps: what comes before and after the network is done in threads, a little ahead and behind it.

Small images go through the network in threads too, if it is on a CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from p2pkit.inference.translator import Translator

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

SMALL = 2**17
"""Pixels of an image (362x362) that several threads compute no faster than each one of its own."""
MOST_IN_PARALLEL = 16
"""Images: each takes memory, and what is Python in a network is done by one thread at a time."""


def prefetch(
    work: Callable[[ItemT], ResultT], items: Iterator[ItemT], threads: int, most: int = 0
) -> Generator[ResultT, None, None]:
    """``work`` done on ``items`` in ``threads``, the results in order.

    Items are taken in the caller's thread, at most ``most`` (or the number of threads, if that is more) before their
    results are asked for, so memory is bounded. What ``work`` raises is raised here. When the caller stops, work that
    has begun is finished and the rest is left. Each thread computes alone; PyTorch's number remains the caller's.
    """
    pending: deque[Future[ResultT]] = deque()
    own = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for item in items:
                    pending.append(pool.submit(work, item))
                    if len(pending) > max(threads, most):
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
    finally:
        torch.set_num_threads(own)


def translated(
    translator: Translator, passes: Iterable[tuple[ItemT, Sequence[Tensor], int]]
) -> Generator[tuple[ItemT, Sequence[Tensor]], None, None]:
    """The translations of each pass's sources [Cs, H, W] of one size with its seed, in order, and what goes with them.

    On a CPU small ones are computed at the same time, each by one thread: threads that share a small map wait for one
    another. All threads share each of the others. So an image's last bits do not depend on how many there are.
    """

    def work(one: tuple[ItemT, Sequence[Tensor], int]) -> tuple[ItemT, Sequence[Tensor]]:
        item, sources, seed = one
        return item, translator.tensor(torch.stack(list(sources)), seed).unbind() if sources else ()

    def small(one: tuple[ItemT, Sequence[Tensor], int]) -> bool:
        return translator.device.type == "cpu" and sum(source[0].numel() for source in one[1]) <= SMALL

    for alone, some in groupby(passes, small):
        if alone:
            with closing(prefetch(work, some, min(torch.get_num_threads(), MOST_IN_PARALLEL))) as results:
                yield from results
        else:
            yield from map(work, some)


def batches(
    items: Iterable[ItemT], most: int, alike: Callable[[ItemT, ItemT], bool] = lambda one, other: True
) -> Iterator[list[ItemT]]:
    """Neighbours among ``items`` that are ``alike``, ``most`` at a time."""
    batch: list[ItemT] = []
    for item in items:
        if batch and (len(batch) == most or not alike(batch[-1], item)):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
