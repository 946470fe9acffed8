"""From a data set to batches: pairs read, jittered and put together, by workers or without."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from p2pkit.contracts import Batch, Pair, PairedDataset
from p2pkit.data.augmentation import PairTransform, TensorPair
from p2pkit.data.bad_samples import Substitution
from p2pkit.data.sampler import Order, Place
from p2pkit.errors import DataError, P2PKitError, first_line
from p2pkit.settings import LoaderSettings
from p2pkit.training.pair_form import PairForm
from p2pkit.utils.signals import SIGNALS

ONE_SIZE = "set transform.load_size or transform.crop_size, or loader.batch_size = 1"
"""What to do about images that do not fit in a batch."""


class Example(NamedTuple):
    """A jittered pair, its key, and the messages on those that were left out on the way to it."""

    tensors: TensorPair
    key: str
    left_out: list[str]


class Loaded(NamedTuple):
    """A batch, and the messages on the pairs that could not be used in it."""

    batch: Batch
    left_out: list[str]


class Examples(Dataset[Example | P2PKitError]):
    """Jittered tensors of the pairs of a data set; what is wrong with a pair is returned, not raised.

    A worker process that raises buries the message under its own traceback.
    """

    def __init__(
        self, pairs: PairedDataset, form: PairForm, transform: PairTransform, settings: LoaderSettings
    ) -> None:
        self._pairs, self._form, self._transform = pairs, form, transform
        self._substitution = Substitution(len(pairs), settings.bad_data)
        self._cache: dict[int, Pair] | None = {} if settings.cache else None

    def __getitem__(self, place: Place) -> Example | P2PKitError:
        epoch, index = place

        def jittered(candidate: int) -> tuple[TensorPair, str]:
            pair = self._pair(candidate)
            # the jitter is that of the place: a pair that stands for another one too is not seen twice alike
            return self._transform.train(self._form.tensors(pair), epoch, index, pair.key), pair.key

        try:
            (tensors, key), left_out = self._substitution.first_usable(index, jittered)
            return Example(tensors, key, left_out)
        except P2PKitError as error:
            return error

    def _pair(self, index: int) -> Pair:
        if self._cache is None:
            return self._pairs[index]
        if index not in self._cache:
            self._cache[index] = self._pairs[index]
        return self._cache[index]


def steps_per_epoch(pairs: int, settings: LoaderSettings, processes: int) -> int:
    """The number of batches in an epoch.

    Raises:
        DataError: there are fewer pairs than a batch needs, or the processes cannot share a batch evenly.
    """
    if pairs < settings.batch_size:
        raise DataError(
            f"loader.batch_size is {settings.batch_size}, but the data set holds {pairs} pairs; lower it to {pairs}"
        )
    if settings.batch_size % processes:
        raise DataError(
            f"loader.batch_size is {settings.batch_size} over all processes and cannot be shared evenly by "
            f"{processes} of them; make it a multiple of {processes}"
        )
    return pairs // settings.batch_size


def batches(examples: Examples, order: Order, workers: int) -> Iterator[Loaded]:
    """Batches without end.

    Raises:
        DataError: a pair cannot be used and none may take its place, or the images of a batch differ in size.
    """
    loader: DataLoader[Any] = DataLoader(
        examples,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in _without_losses(loader):
        if isinstance(batch, P2PKitError):
            raise batch
        source, target, keys, left_out = batch
        yield Loaded(Batch(source, target, keys), left_out)


def _without_losses(loader: DataLoader[Any]) -> Iterator[Any]:
    """What the workers give; one that has been killed is an error that says what to do."""
    try:
        yield from loader
    except (RuntimeError, ConnectionError, EOFError) as error:
        lost = lost_worker(error)
        if lost is None:
            raise
        raise lost from error


def lost_worker(error: Exception) -> DataError | None:
    """What to do when ``error`` says that a worker has been killed; None when it says something else.

    PyTorch raises it out of a signal's handler, and so wherever the program happens to be.
    """
    # one that dies while it hands over a batch is a broken connection
    if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
        return None
    return DataError(
        f"a process that reads pairs has been killed ({first_line(error)}), mostly because memory ran out, in "
        "/dev/shm too. Lower loader.workers, loader.batch_size or transform.crop_size, or leave loader.cache off"
    )


def _collate(examples: list[Example | P2PKitError]) -> tuple[Any, ...] | P2PKitError:
    whole: list[Example] = []
    for example in examples:
        if isinstance(example, P2PKitError):
            return example
        whole.append(example)
    if len({example.tensors[0].shape for example in whole}) > 1:
        sizes = ", ".join("{} {}x{}".format(each.key, *each.tensors[0].shape[1:]) for each in whole)
        return DataError(f"the images of a batch differ in size (height x width): {sizes}; {ONE_SIZE}")
    source, target = (torch.stack([example.tensors[side] for example in whole]) for side in (0, 1))
    return source, target, [example.key for example in whole], [text for each in whole for text in each.left_out]


def _start_worker(worker: int) -> None:
    # Ctrl-C, and what a cluster sends, reach the whole process group; only the main process answers
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
