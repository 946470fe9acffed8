"""Work that overlaps: what comes before and after the network is done in threads, a little ahead and behind it.

Small images go through the network in threads too, if it is on a CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from copy import copy, deepcopy
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from p2pkit.networks.fitting import fitting_size

if TYPE_CHECKING:
    from p2pkit.inference.translator import Translator

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

SMALL = 2**17
"""Pixels of the larger of an image (362x362) and what is made of it: several threads compute no more of them in the
same time than each one of its own does."""
MOST_IN_PARALLEL = 16
"""Images: each takes memory, and what is Python in a network is done by one thread at a time."""


class Pass(NamedTuple, Generic[ItemT]):
    """What goes through a network together: sources [Cs, H, W] of one size, or none, and the seed of their noise."""

    item: ItemT
    """What goes along with them."""
    sources: list[Tensor]
    seed: int


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
        with ThreadPoolExecutor(threads, initializer=_compute_alone) as pool:
            try:
                for item in items:
                    pending.append(pool.submit(work, item))
                    if len(pending) > max(threads, most):
                        result = pending.popleft().result()
                        torch.set_num_threads(own)  # for threads of the program that begin later, too
                        yield result
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
    finally:
        torch.set_num_threads(own)


def _compute_alone() -> None:
    """Let PyTorch take one thread for what this one computes."""
    torch.get_num_threads()  # a thread that has not asked takes the program's number, later
    torch.set_num_threads(1)


def translated(
    translator: Translator, passes: Iterable[Pass[ItemT]]
) -> Generator[tuple[ItemT, Sequence[Tensor]], None, None]:
    """What goes along with each pass, and the translations of its sources, in order.

    On a CPU small ones are computed at the same time, each by one thread: threads that share a small map wait for one
    another. All threads share each of the others. So an image's last bits do not depend on how many images there are.
    """
    idle: deque[Translator] = deque()
    if translator.device.type == "cpu":
        with suppress(Exception):  # a plugin's module may hold what cannot be copied
            idle.append(_replica(translator))
    parallel = bool(idle)

    def small(one: Pass[ItemT]) -> bool:
        height, width = fitting_size(translator.generator, one.sources[0].shape[1:]) if one.sources else (0, 0)
        return len(one.sources) * height * width * translator.header.scale**2 <= SMALL

    def through(own: Translator, one: Pass[ItemT]) -> tuple[ItemT, Sequence[Tensor]]:
        return one.item, own.tensor(torch.stack(one.sources), one.seed).unbind() if one.sources else ()

    def in_parallel(one: Pass[ItemT]) -> tuple[ItemT, Sequence[Tensor]]:
        try:
            own = idle.pop()
        except IndexError:
            own = _replica(translator)
        try:
            return through(own, one)
        finally:
            idle.append(own)

    for alone, some in groupby(passes, lambda one: parallel and small(one)):
        if alone:
            with closing(prefetch(in_parallel, some, min(torch.get_num_threads(), MOST_IN_PARALLEL))) as results:
                yield from results
        else:
            yield from map(partial(through, translator), some)


def _replica(translator: Translator) -> Translator:
    """A translator for another thread, with modules of its own and the same weights."""
    generator = translator.generator
    shared = {id(each): each for each in chain(generator.parameters(), generator.buffers())}
    replica = copy(translator)
    # what modules keep from one layer to the next, as timm's do of features, is of one call at a time
    replica.generator = deepcopy(generator, shared)
    return replica


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
