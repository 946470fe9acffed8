"""From a data set to batches: pairs read, jittered and put together, by workers or without."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from p2pkit.contracts import Batch, Pair, PairedDataset
from p2pkit.engine.interruption import SIGNALS
from p2pkit.engine.order import Order, Place
from p2pkit.errors import DataError, P2PKitError
from p2pkit.images.pixels import to_unit
from p2pkit.images.transforms import PairTransform, TensorPair
from p2pkit.settings import LoaderSettings


class Examples(Dataset[tuple[TensorPair, str] | P2PKitError]):
    """Jittered tensors of the pairs of a data set; what is wrong with a pair is returned, not raised.

    A worker process that raises buries the message under its own traceback.
    """

    def __init__(self, pairs: PairedDataset, transform: PairTransform, cache: bool) -> None:
        self._pairs, self._transform = pairs, transform
        self._first = pairs[0]
        self._cache: dict[int, Pair] | None = {} if cache else None

    def __getitem__(self, place: Place) -> tuple[TensorPair, str] | P2PKitError:
        epoch, index = place
        try:
            pair = self._pair(index)
            tensors = unit_pair(pair, self._first)
            return self._transform.train(tensors, epoch, index, pair.key), pair.key
        except P2PKitError as error:
            return error

    def _pair(self, index: int) -> Pair:
        if self._cache is None:
            return self._pairs[index]
        if index not in self._cache:
            self._cache[index] = self._pairs[index]
        return self._cache[index]


def unit_pair(pair: Pair, like: Pair) -> TensorPair:
    """The two images of a pair as tensors in [-1, 1].

    Raises:
        DataError: they differ in size, or in channels from those of the pair ``like``.
    """
    for side in ("source", "target"):
        found, expected = getattr(pair, side).shape[2], getattr(like, side).shape[2]
        if found != expected:
            raise DataError(
                f"{pair.key}: its {side} has {found} channels, that of {like.key} has {expected}; "
                "all pairs of a data set must agree"
            )
    source, target = to_unit(pair.source, pair.key), to_unit(pair.target, pair.key)
    if source.shape[1:] != target.shape[1:]:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[2]}" for image in (source, target))
        raise DataError(f"{pair.key}: source and target differ in size (height x width): {sizes}")
    return source, target


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


def batches(examples: Examples, order: Order, workers: int) -> Iterator[Batch]:
    """Batches without end.

    Raises:
        DataError: a pair cannot be read, or the images of a batch differ in size.
    """
    loader: DataLoader[Any] = DataLoader(
        examples,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, P2PKitError):
            raise batch
        source, target, keys = batch
        yield Batch(source, target, keys)


def _collate(examples: list[tuple[TensorPair, str] | P2PKitError]) -> tuple[Any, ...] | P2PKitError:
    pairs: list[TensorPair] = []
    keys: list[str] = []
    for example in examples:
        if isinstance(example, P2PKitError):
            return example
        pairs.append(example[0])
        keys.append(example[1])
    if len({source.shape for source, _ in pairs}) > 1:
        sizes = ", ".join(
            f"{key} {source.shape[1]}x{source.shape[2]}" for key, (source, _) in zip(keys, pairs, strict=True)
        )
        return DataError(
            f"the images of a batch differ in size (height x width): {sizes}; set transform.load_size or "
            "transform.crop_size, or loader.batch_size = 1"
        )
    return torch.stack([source for source, _ in pairs]), torch.stack([target for _, target in pairs]), keys


def _start_worker(worker: int) -> None:
    # Ctrl-C, and what a cluster sends, reach the whole process group; only the main process answers
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
