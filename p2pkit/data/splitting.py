"""A part of the train set as val set (``[data] split``): which samples these are is a hash of their names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from math import nextafter
from pathlib import PurePosixPath
from typing import Any
from unicodedata import normalize

from p2pkit.contracts import Sample, SampleHeader, Split
from p2pkit.data.samples import Samples
from p2pkit.data.shared_files import refuse_shared_sources
from p2pkit.data.split_names import split_of
from p2pkit.errors import DataError, RecipeError, counted, reason
from p2pkit.images.formats import installed
from p2pkit.utils.progress import Progress

DEFAULT_FRACTION, FEWEST = 0.1, 20
"""The share that becomes the val set where nobody has chosen one, and of how many pairs at least."""


def settled_sets(
    made: Mapping[Split, Any], origin: str, fraction: float | None, seed: int
) -> tuple[dict[Split, Any], list[str]]:
    """The data sets by split, with ``fraction`` of the train set as val set if that is given; and what is to be said.

    Without ``fraction`` it is DEFAULT_FRACTION where there is neither a val nor a test set, and FEWEST pairs or more.

    Raises:
        RecipeError, DataError: as :func:`with_val_set`; a source is in the train set and in another one.
    """
    notices = refuse_shared_sources(made, origin)
    if fraction is not None:
        return (with_val_set(made, origin, fraction, seed) if fraction else dict(made)), notices
    train = Samples(made["train"], origin, "train", seed)
    measured = any(len(Samples(made[split], origin, split, seed)) for split in ("val", "test"))
    if measured or train.targets is not None or hasattr(train, "shards"):
        return dict(made), notices
    names = _names(train, made["train"]) if len(train) >= FEWEST else []
    shares = sorted(set(map(_share, names)))
    if len(shares) < 2:
        return dict(made), notices
    # of few names none, or all, may lie below the fraction
    usable = shares[0] < DEFAULT_FRACTION <= shares[-1]
    fraction = DEFAULT_FRACTION if usable else nextafter(shares[0], 1)
    why = "there is no val and no test set, so {}; data.split = 0 trains on all"
    return _divided(made, names, fraction, why), notices


def with_val_set(made: Mapping[Split, Any], origin: str, fraction: float, seed: int) -> dict[Split, Any]:
    """The data sets by split, with about ``fraction`` of the train set as val set.

    A sample is in the val set by the hash of its group, where the data set gives one, or of its stem: its key without
    the folder of the split and its ending. So none moves when others come or go, and all of a group stay together.

    Raises:
        RecipeError: there is a val set, or the train set is unpaired or in shards.
        DataError: no sample falls into the one set or the other.
    """
    key, dataset = f"data.split = {fraction:g}", made["train"]
    train = Samples(dataset, origin, "train", seed)
    if not len(train):
        return dict(made)
    if count := len(made["val"]):
        raise RecipeError(f"{key}: {origin} has a val set already, of {counted(count, 'sample')}; leave the key out")
    if train.targets is not None:
        raise RecipeError(f"{key}: {origin} is unpaired, and no metrics are taken of that; leave the key out")
    if hasattr(train, "shards"):
        remedy = "set the key in the recipe that p2pkit data shard makes them of"
        raise RecipeError(f"{key}: {origin} has its samples in shards, which are read whole; {remedy}")
    return _divided(made, _names(train, dataset), fraction, f"{key}: {{}}")


def _divided(made: Mapping[Split, Any], names: Sequence[str], fraction: float, said: str) -> dict[Split, Any]:
    """The data sets, those samples as val set whose ``names`` have a hash below ``fraction``; ``said`` has the notice.

    Raises:
        DataError: no sample falls into the one set or the other.
    """
    chosen = {name for name in set(names) if _share(name) < fraction}
    places: dict[Split, list[int]] = {"train": [], "val": []}
    for place, name in enumerate(names):
        places["val" if name in chosen else "train"].append(place)
    found = f"{len(places['val'])} of {len(names)} training pairs ({len(chosen)} of {len(set(names))} names or groups)"
    if not places["train"] or not places["val"]:
        wrong = said.format(f"{found} would be the val set; each set needs one at least")
        raise DataError(f"{wrong}. Choose another share")
    notice = said.format(f"{found} are the val set, by a hash of what they are called")
    parts = {split: Part(made["train"], places[split], f"{split} {fraction!r}", [notice]) for split in places}
    return {**made, **parts}


def _names(samples: Samples, dataset: Any) -> list[str]:
    """What decides of each sample: its group, or its stem."""
    names = []
    with Progress(
        "reading keys", len(samples), "sample", shown=not callable(getattr(dataset, "key", None))
    ) as progress:
        for index in range(len(samples)):
            group = _given(dataset, "group", index, samples.origin)
            # unlike any stem
            names.append(f"\0{group}" if group else stem_of(_key(samples, index, dataset)))
            progress.advance()
    return names


def _given(dataset: Any, method: str, index: int, origin: str) -> str:
    """What the data set's ``key`` or ``group`` gives; empty where it has no such method."""
    if not callable(getattr(dataset, method, None)):
        return ""
    try:
        return str(getattr(dataset, method)(index) or "")
    except Exception as error:  # whatever a stranger's method may raise
        raise DataError(f"{origin}: {method}({index}) fails: {reason(error)}") from error


def _key(samples: Samples, index: int, dataset: Any) -> str:
    if own := _given(dataset, "key", index, samples.origin):
        return own
    with suppress(DataError):  # it is reported, or skipped, by whoever trains on it
        entry: SampleHeader | Sample = samples.header(index) if hasattr(samples, "header") else samples[index]
        return entry.key
    return str(index)


def stem_of(key: str) -> str:
    """A key without the folders of splits in it and without the ending of an image, in one Unicode form."""
    path = PurePosixPath(normalize("NFC", key))
    ending = installed().ending(path.name)
    if ending in installed().endings:
        path = path.with_name(path.name[: len(path.name) - len(ending)])
    return "/".join(part for part in path.parts[:-1] if not split_of(part)) + "/" + path.name


def _share(name: str) -> float:
    """A number from 0 to below 1 that is a function of the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()[:8]) / 2**64


class Part:
    """Some samples of a data set, which go by ``places``; else it is what that is."""

    def __init__(self, dataset: Any, places: Sequence[int], label: str, notices: Sequence[str]) -> None:
        """``label`` marks it off from other parts of the data set in the fingerprint."""
        self._dataset, self._places, self._label = dataset, places, label
        self.whole_set = getattr(dataset, "whole_set", dataset)
        """The data set of which this is a part."""
        self.notices = [*getattr(dataset, "notices", ()), *notices]
        self.problems, self.planes = getattr(dataset, "problems", ()), getattr(dataset, "planes", None)
        self.target_ending, self.stored_as = getattr(dataset, "target_ending", ""), getattr(dataset, "stored_as", "")
        self.classes = getattr(dataset, "classes", None)
        if callable(getattr(dataset, "header", None)):
            self.header = self._header
        if callable(getattr(dataset, "fingerprint", None)):
            self.fingerprint = self._fingerprint
        if callable(getattr(dataset, "reduced", None)):
            self.reduced = self._reduced

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self._places):
            raise IndexError(index)
        return self._dataset[self._places[index]]

    def _header(self, index: int) -> Any:
        return self._dataset.header(self._places[index])

    def _reduced(self, sizes: Mapping[str, tuple[int, int]]) -> Part:
        found = copy(self)
        found._dataset = self._dataset.reduced(sizes)
        return found

    def _fingerprint(self) -> Any:
        own = self._dataset.fingerprint()
        digest = hashlib.sha256(repr(self._places).encode()).hexdigest()[:8]
        return f"{own} {self._label} {digest}" if own and isinstance(own, str) else own
