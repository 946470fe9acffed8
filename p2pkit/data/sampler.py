"""Which pairs make up which batch: a function of seed and epoch alone, of which each process takes its share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch.utils.data import Sampler

from p2pkit.utils.seeds import derived

SampleIndex = tuple[int, ...]
"""(epoch, number): which sample, counted with its crops, in which epoch, since its augmentation depends on both; and
behind them, for unpaired data, the index of the target drawn for it."""

WINDOW = 1000
"""How many consecutive pairs of a stream are shuffled: as many as a shard holds, so a stream reads two at a time."""


class EpochSampler(Sampler[list[SampleIndex]]):
    """The batches of one process, from a step on and without end: epoch after epoch, each in an order of its own.

    A batch is cut from the whole run's global batch, so that results do not depend on the number of processes. What is
    left at the end of an epoch and fills no batch is dropped. With ``shards``, the numbers of pairs in each shard of
    the data set, pairs that are near in the order are near in the data (see :func:`shard_shuffle`). An epoch has
    ``crops`` samples of each pair, one after another, so that it need not be read for each. With ``targets``, the
    number of targets of an unpaired data set, one of them is drawn for each place of an epoch.
    """

    def __init__(
        self, pairs: int, batch_size: int, seed: int, first_step: int, rank: int, processes: int,
        shards: Sequence[int] | None = None, crops: int = 1, targets: int = 0,
    ) -> None:  # fmt: skip
        assert shards is None or sum(shards) == pairs, "a data set's shards must hold its pairs"
        self.samples, self.batch_size, self.seed, self.first_step = pairs * crops, batch_size, seed, first_step
        self.shards, self.crops, self.targets = shards, crops, targets
        share = batch_size // processes
        self.share = range(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        epoch, offset = divmod(self.first_step, self.samples // self.batch_size)
        while True:
            seed = derived(self.seed, "order", epoch)
            if self.shards is None:
                batches = shuffle(self.samples, self.batch_size, self.share, offset, seed, self.crops)
            else:
                batches = shard_shuffle(self.shards, self.batch_size, self.share, offset, seed, self.crops)
            for step, batch in enumerate(batches, offset):
                drawn = [self._drawn(epoch, step)] if self.targets else []
                yield list(zip(repeat(epoch), batch, *drawn, strict=False))
            epoch, offset = epoch + 1, 0

    def _drawn(self, epoch: int, step: int) -> list[int]:
        """The targets of this process's share of a batch."""
        places = range(step * self.batch_size + self.share.start, step * self.batch_size + self.share.stop)
        return [derived(self.seed, "target", epoch, place) % self.targets for place in places]


def shuffle(samples: int, batch_size: int, share: range, first: int, seed: int, crops: int) -> Iterator[list[int]]:
    """The ``share`` of each global batch of an epoch, from its batch number ``first`` on: all samples in random order.

    The ``crops`` of a pair have consecutive numbers, and follow one another.
    """
    order = _permutation(samples, crops, seed)
    for step in range(first, samples // batch_size):
        start = step * batch_size
        yield order[start + share.start : start + share.stop].tolist()


def shard_shuffle(
    shards: Sequence[int], batch_size: int, share: range, first: int, seed: int, crops: int
) -> Iterator[list[int]]:
    """Like :func:`shuffle`, but so that each process reads few shards at a time, and each of them once.

    The shards are laid end to end in random order, and what they hold is cut into as many equal streams as a batch has
    pairs. A stream gives every batch one pair; a process owns streams. Within a stream, pairs are shuffled in windows.
    What is kept in memory is a window of each stream owned, however many pairs there are.
    """
    counts = torch.tensor(shards) * crops
    permutation = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))
    first_index = (counts.cumsum(0) - counts)[permutation]
    first_place = counts[permutation].cumsum(0) - counts[permutation]

    def index_at(place: torch.Tensor) -> torch.Tensor:
        shard = torch.searchsorted(first_place, place, right=True) - 1
        return first_index[shard] + place - first_place[shard]

    steps = int(counts.sum()) // batch_size
    for window in range(first // WINDOW, -(-steps // WINDOW)):
        start, stop = window * WINDOW, min((window + 1) * WINDOW, steps)
        seeds = [(stream, derived(seed, stream, window)) for stream in share]
        places = [stream * steps + start + _permutation(stop - start, crops, own) for stream, own in seeds]
        batches = index_at(torch.stack(places, dim=1))
        for batch in batches[max(0, first - start) :]:
            yield batch.tolist()


def _permutation(count: int, together: int, seed: int) -> torch.Tensor:
    """The numbers below ``count`` in random order, but each ``together`` of them as they are."""
    blocks = torch.randperm(-(-count // together), generator=torch.Generator().manual_seed(seed))
    numbers = (blocks[:, None] * together + torch.arange(together)).flatten()
    return numbers[numbers < count]
