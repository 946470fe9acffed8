"""Batches: which pairs make up which, and the DataLoader, by which they are read, augmented and put together."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from p2pkit.contracts import Batch
from p2pkit.data.augmentation import Augmentation, SampleSpec, Tensors
from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.data.batch_memory import AHEAD, Posted, Receiver, Sender
from p2pkit.data.device_cache import DeviceCache
from p2pkit.data.readers import LOOK_EVERY_SECONDS, batches_of
from p2pkit.data.samples import Samples
from p2pkit.errors import DataError, P2PKitError, RecipeError, counted
from p2pkit.images import formats
from p2pkit.settings import LoaderSettings
from p2pkit.utils.seeds import derived
from p2pkit.utils.signals import SIGNALS

ONE_SIZE = "set transform.load_size or transform.crop_size, or loader.batch_size = 1"
"""What to do about images that do not fit in a batch."""
SampleIndex = tuple[int, ...]
"""(epoch, number): which sample, counted with its crops, in which epoch, since its augmentation depends on both; and
behind them, for unpaired data, the index of the target drawn for it."""

WINDOW = 1000
"""How many consecutive pairs of a stream are shuffled: as many as a shard holds, so a stream reads two at a time."""


class Example(NamedTuple):
    """An augmented sample, its key, and the messages on those that were skipped on the way to it."""

    tensors: Tensors
    key: str
    skipped: list[str]


class Loaded(NamedTuple):
    """A batch, and the messages on the pairs that could not be used in it."""

    batch: Batch
    skipped: list[str]


class Examples(Dataset[Example | P2PKitError]):
    """Augmented tensors of the samples of a data set; what is wrong with one is returned, not raised.

    A worker process that raises buries the message under its own traceback. Targets of an unpaired data set are
    examples of their own, augmented apart from the sources. With a ``device`` they are made there, of samples that stay
    there, if ``settings.cache`` says so.
    """

    def __init__(
        self, samples: Samples, spec: SampleSpec, augmentation: Augmentation, settings: LoaderSettings,
        device: torch.device | None = None,
    ) -> None:  # fmt: skip
        self._samples, self._spec, self._augmentation = samples, spec, augmentation
        self._bad_samples = SkipBadSamples(len(samples), settings.bad_data)
        self._last: dict[tuple[int, int], tuple[Tensors, str]] = {}
        """The sample of which further crops follow."""
        self._on_device = DeviceCache(samples, spec, device) if device and settings.cache == "device" else None
        if self._on_device and device and device.type != "cpu" and augmentation.augmentations:
            drawn = "[[augmentations]] may draw on the device, where no draw is a function of the seed alone"
            raise RecipeError(f'loader.cache = "device": {drawn}; set it to "memory" or "disk"')
        self._targets: Examples | None = None
        if samples.targets is not None:
            # what is known of several sources is not true of targets
            parts = augmentation.parts if len(augmentation.parts) < 2 else ()
            apart = replace(augmentation, seed=derived(augmentation.seed, "targets"), parts=parts)
            self._targets = Examples(samples.targets, spec, apart, settings, device)

    def __getstate__(self) -> dict[str, Any]:
        # first of all: a worker that is spawned, not forked, reads files with the plugins of this process
        return {"_plugins": formats.plugins(), **vars(self)}

    def __getitem__(self, at: SampleIndex) -> Example | P2PKitError:
        epoch, number, *drawn = at
        index, crop = divmod(number, self._augmentation.settings.crops_per_image)

        def augmented(candidate: int) -> tuple[Tensors, str]:
            found = self._last.get((epoch, candidate))
            if found is None:
                if self._on_device is not None:
                    found = self._on_device.tensors(candidate)
                else:
                    pair = self._samples.read(candidate, epoch)
                    found = self._spec.tensors(pair), pair.key
                if self._augmentation.settings.crops_per_image > 1:
                    self._last = {(epoch, candidate): found}
            tensors, key = found
            # augmented by the index that was asked for: a pair that stands for another one too is not seen twice alike;
            # the first crop's draws are those of a recipe with one crop an image
            return self._augmentation.train(tensors, (epoch, index, crop) if crop else (epoch, index), key), key

        try:
            (tensors, key), skipped = self._bad_samples.first_usable(index, augmented)
        except P2PKitError as error:
            return error
        if self._targets is None:
            return Example(tensors, key, skipped)
        target = self._targets[epoch, drawn[0] if drawn else 0]
        if isinstance(target, P2PKitError):
            return target
        return Example(Tensors(tensors.source, target.tensors.target), f"{key}, {target.key}", skipped + target.skipped)


def steps_per_epoch(pairs: int, settings: LoaderSettings, processes: int, crops: int = 1) -> int:
    """The number of batches in an epoch that takes so many ``crops`` of each pair.

    Raises:
        DataError: there are fewer samples than a batch needs, or the processes cannot share a batch evenly.
    """
    samples = pairs * crops
    if samples < settings.batch_size:
        each = f", of which {crops} crops are taken each" if crops > 1 else ""
        raise DataError(
            f"loader.batch_size is {settings.batch_size}, but the data set holds {counted(pairs, 'pair')}{each}; "
            f"lower it to {samples}"
        )
    if settings.batch_size % processes:
        raise DataError(
            f"loader.batch_size is {settings.batch_size} over all processes and cannot be shared evenly by "
            f"{processes} of them; make it a multiple of {processes}"
        )
    return samples // settings.batch_size


@dataclass(eq=False)
class EpochSampler(Sampler[list[SampleIndex]]):
    """The batches of one process, from a step on and without end: epoch after epoch, each in an order of its own.

    A batch is cut from the whole run's global batch, so that results do not depend on the number of processes. What is
    left at the end of an epoch and fills no batch is dropped. With ``shards``, the numbers of pairs in each shard of
    the data set, pairs that are near in the order are near in the data (see :func:`shard_shuffle`). An epoch has
    ``crops`` samples of each pair, one after another, so that it need not be read for each. With ``targets``, the
    number of targets of an unpaired data set, one of them is drawn for each place of an epoch.
    """

    pairs: int
    batch_size: int
    seed: int
    first_step: int
    rank: int
    processes: int
    shards: Sequence[int] | None = None
    crops: int = 1
    targets: int = 0

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        assert self.shards is None or sum(self.shards) == self.pairs, "a data set's shards must hold its pairs"
        samples, own = self.pairs * self.crops, self.batch_size // self.processes
        epoch, offset = divmod(self.first_step, samples // self.batch_size)
        share = range(self.rank * own, (self.rank + 1) * own)
        while True:
            seed = derived(self.seed, "order", epoch)
            if self.shards is None:
                batches = shuffle(samples, self.batch_size, share, offset, seed, self.crops)
            else:
                batches = shard_shuffle(self.shards, self.batch_size, share, offset, seed, self.crops)
            for step, batch in enumerate(batches, offset):
                drawn = [self._drawn(epoch, step * self.batch_size, share)] if self.targets else []
                yield list(zip(repeat(epoch), batch, *drawn, strict=False))
            epoch, offset = epoch + 1, 0

    def _drawn(self, epoch: int, first: int, share: range) -> list[int]:
        """The targets of this process's ``share`` of a batch, which begins with the place ``first`` of an epoch."""
        return [derived(self.seed, "target", epoch, first + place) % self.targets for place in share]


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


def batches(
    examples: Examples, sampler: EpochSampler, settings: LoaderSettings, asked: Callable[[], bool] = bool
) -> Iterator[Loaded]:
    """Batches without end; but once somebody has ``asked`` to stop, workers that give none are waited for no longer.

    Raises:
        DataError: a pair cannot be used and none may take its place, the images of a batch differ in size, or a worker
            has been killed or gives nothing for ``loader.timeout``.
    """
    made_there = settings.cache == "device"  # where other processes have no business
    workers = 0 if made_there else settings.workers
    pinned = torch.cuda.is_available() and not made_there
    loader: DataLoader[Any] = DataLoader(
        examples,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_Posting() if workers else collate,
        worker_init_fn=_start_worker,
        pin_memory=pinned and not workers,
        prefetch_factor=AHEAD if workers else None,
        timeout=LOOK_EVERY_SECONDS if workers else 0,
    )
    receiver = Receiver(pinned)
    for batch in batches_of(loader, settings.timeout, asked) if workers else loader:
        if isinstance(batch, P2PKitError):
            raise batch
        (source, target, *mask), keys, skipped = (receiver.take(batch), *batch.rest) if workers else batch
        yield Loaded(Batch(source, target, keys, *mask), skipped)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the networks are."""
    source, target = batch.source.to(device, non_blocking=True), batch.target.to(device, non_blocking=True)
    mask = batch.mask if batch.mask is None else batch.mask.to(device, non_blocking=True)
    return Batch(source, target, batch.keys, mask)


class Collated(NamedTuple):
    """The images of a batch, sources, targets and masks if there are any, its keys, and messages."""

    images: Sequence[Any]
    keys: list[str]
    skipped: list[str]


def collate(examples: Sequence[Example | P2PKitError]) -> Collated | P2PKitError:
    """A batch, its images as tensors [N, C, H, W]; its error where it has one, or that its images differ in size."""
    batch = _collected(examples)
    return batch if isinstance(batch, P2PKitError) else batch._replace(images=list(map(torch.stack, batch.images)))


class _Posting:
    """Collates in a worker, into memory that is shared with the process that trains."""

    def __init__(self) -> None:
        self._sender = Sender()

    def __call__(self, examples: Sequence[Example | P2PKitError]) -> Posted | P2PKitError:
        batch = _collected(examples)
        return batch if isinstance(batch, P2PKitError) else self._sender.post(batch.images, batch[1:])


def _collected(examples: Sequence[Example | P2PKitError]) -> Collated | P2PKitError:
    """Lists of the images of a batch; its error where it has one, or that its images differ in size."""
    sources, targets, keys, skipped, masks = [], [], [], [], []
    for example in examples:
        if isinstance(example, P2PKitError):
            return example
        sources.append(example.tensors.source)
        targets.append(example.tensors.target)
        if example.tensors.mask is not None:
            masks.append(example.tensors.mask)
        keys.append(example.key)
        skipped += example.skipped
        if sources[0].shape != sources[-1].shape or targets[0].shape != targets[-1].shape:
            return _differing_sizes(examples)
    return Collated([sources, targets, *([masks] if masks else [])], keys, skipped)


def _differing_sizes(examples: Sequence[Example | P2PKitError]) -> P2PKitError:
    whole = [example for example in examples if isinstance(example, Example)]
    images = [each.tensors.source for each in whole]
    if all(image.shape == images[0].shape for image in images):
        images = [each.tensors.target for each in whole]
    sizes = ", ".join("{} {}x{}".format(each.key, *image.shape[1:]) for each, image in zip(whole, images, strict=True))
    return DataError(f"the images of a batch differ in size (height x width): {sizes}; {ONE_SIZE}")


def _start_worker(worker: int) -> None:
    # Ctrl-C, and what a cluster sends, reach the whole process group; only the main process answers
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
