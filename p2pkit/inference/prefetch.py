"""Work that overlaps: what comes before and after the network is done in threads, a little ahead and behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def prefetch(
    work: Callable[[ItemT], ResultT], items: Iterator[ItemT], threads: int, most: int = 0
) -> Generator[ResultT, None, None]:
    """``work`` done on ``items`` in ``threads``, the results in order.

    Items are taken in the caller's thread, at most ``most`` (or the number of threads, if that is more) before their
    results are asked for, so memory is bounded. What ``work`` raises is raised here. When the caller stops, work that
    has begun is finished and the rest is left.
    """
    pending: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(threads) as pool:
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
