"""The contract of a data set (contracts.PairedDataset and its kin)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from p2pkit.components.signature import supplied_names
from p2pkit.contracts import DatasetWithHeaders, Sample, SampleHeader, dtype_range
from p2pkit.testing.checks import Subject, contract, require

LOOKED_AT = 6
"""Pairs of a split that are read, the first and the last among them; of larger splits not all."""
HEADERS = 1000
"""Pairs of a split whose keys are looked at, where it has headers."""


def _split(subject: Subject, split: str) -> Any:
    return subject.make(split=split)


def _places(count: int, most: int = LOOKED_AT) -> list[int]:
    """Up to ``most`` indices of ``count``, evenly from the first to the last."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(most, count))})


def _same(one: Sample, other: Sample) -> bool:
    sides = zip(one[:2], other[:2], strict=True)
    same_pixels = all(np.array_equal(*both) and both[0].dtype == both[1].dtype for both in sides)
    return same_pixels and one.key == other.key


def _require_same_pairs(one: Any, other: Any, found: str) -> None:
    require(len(one) == len(other), f"{found}: {len(other)} pairs instead of {len(one)}")
    for index in _places(len(one)):
        require(_same(one[index], other[index]), f"{found}: the pair at {index} ({one[index].key})")


@contract("len() is the number of pairs, 1 or more to train on, and an index beyond them is an IndexError")
def has_a_length(subject: Subject) -> None:
    """There is something to train on, and an end to it."""
    for split in ("train", "test"):
        pairs = _split(subject, split)
        require(len(pairs) or split == "test", "no pair to train on; give the test a root or a url that has some")
        try:
            pairs[len(pairs)]
        except IndexError:
            continue
        require(False, f"no IndexError for index {len(pairs)} of {len(pairs)} pairs in the split {split!r}")


@contract("[index] is a Sample of pixel arrays as stored, [height, width, channels] of one size, with a key")
def gives_pairs(subject: Subject) -> None:
    """Types and shapes of the pairs of both splits."""
    for split in ("train", "test"):
        pairs = _split(subject, split)
        for index in _places(len(pairs)):
            _require_pair(pairs[index], f"at {index} of the split {split!r}")


def _require_pair(pair: Any, where: str) -> None:
    require(isinstance(pair, Sample), f"{type(pair).__name__} instead of a Sample, {where}")
    require(isinstance(pair.key, str) and pair.key, f"the key {pair.key!r}, {where}")
    for name, pixels in (("source", pair.source), ("target", pair.target)):
        require(isinstance(pixels, np.ndarray), f"a {name} that is {type(pixels).__name__}, {where}")
        require(pixels.ndim == 3 and pixels.size, f"a {name} of shape {pixels.shape}, {where}")
        try:
            dtype_range(pixels.dtype)
        except KeyError:
            require(False, f"a {name} of {pixels.dtype}; integers of up to 32 bits and floats are pixels, {where}")
    sizes = pair.source.shape[:2], pair.target.shape[:2]
    require(sizes[0] == sizes[1], f"sizes that differ, {sizes[0]} and {sizes[1]}, {where}")


@contract("keys are unique, within a split and between the two")
def has_unique_keys(subject: Subject) -> None:
    """No file name is used twice, and no training pair is in the test split."""
    splits = [_split(subject, split) for split in ("train", "test")]
    keys = [[_key(pairs, index) for index in _places(len(pairs), _most(pairs))] for pairs in splits]
    for found in keys:
        twice = sorted({key for key in found if found.count(key) > 1})
        require(not twice, f"the same key of several pairs: {', '.join(twice)}")
    if "split" in supplied_names(subject.registered.factory, subject.kind):
        both = sorted(set(keys[0]) & set(keys[1]))
        require(not both, f"keys in both splits: {', '.join(both[:LOOKED_AT])}")


def _most(pairs: Any) -> int:
    return HEADERS if isinstance(pairs, DatasetWithHeaders) else LOOKED_AT


def _key(pairs: Any, index: int) -> str:
    entry: SampleHeader | Sample = pairs.header(index) if isinstance(pairs, DatasetWithHeaders) else pairs[index]
    return entry.key


@contract("header(index), if there is one, is the header of the pair, in threads too")
def has_true_headers(subject: Subject) -> None:
    """What the header scan before a run sees is what training reads."""
    for split in ("train", "test"):
        pairs = _split(subject, split)
        places = _places(len(pairs))
        if not isinstance(pairs, DatasetWithHeaders):
            continue
        with ThreadPoolExecutor(4) as threads:
            headers = list(threads.map(pairs.header, places))
        for index, header in zip(places, headers, strict=True):
            require(isinstance(header, SampleHeader), f"{type(header).__name__} instead of a SampleHeader, at {index}")
            true = pairs[index].header  # type: ignore[index]
            require(header == true, f"{tuple(header)}, but the pair itself is {tuple(true)}")


@contract("made again, or read again, it is the same: pairs, order and fingerprint")
def repeats_itself(subject: Subject) -> None:
    """Runs are exact only on data that stays as it is."""
    for split in ("train", "test"):
        pairs, again = _split(subject, split), _split(subject, split)
        _require_same_pairs(pairs, pairs, "read twice, pixels differ")
        _require_same_pairs(pairs, again, "made twice, pairs differ")
        prints = [pairs.fingerprint(), pairs.fingerprint(), again.fingerprint()] if len(pairs) else [""]
        require(len(set(prints)) == 1, f"several fingerprints of the same data: {prints}")
        require(isinstance(prints[0], str) and (prints[0] or not len(pairs)), f"the fingerprint {prints[0]!r}")


@contract("processes that load data can have it: forked, or pickled to those that are not, it gives the same pairs")
def works_in_workers(subject: Subject) -> None:
    """loader.workers change nothing."""
    pairs = _split(subject, "train")
    pairs[0]  # files open by now must not prevent pickling
    _require_same_pairs(pairs, pickle.loads(pickle.dumps(pairs)), "pickled, it gives other pairs")
    places = _places(len(pairs))
    loader: DataLoader[Any] = DataLoader(_Places(pairs, places), batch_size=None, num_workers=2, collate_fn=_as_it_is)
    for index, pair in zip(places, loader, strict=True):
        require(_same(pairs[index], pair), f"another pair at {index} in a worker process")


class _Places(Dataset[Sample]):
    """Some pairs, for workers."""

    def __init__(self, pairs: Any, places: Sequence[int]) -> None:
        self.pairs, self.places = pairs, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        pair: Sample = self.pairs[self.places[index]]
        return pair


def _as_it_is(pair: Any) -> Any:
    return pair


@contract("shards, notices and target_ending, if there are any, are as contracts.py describes; shards sum to len()")
def has_valid_attributes(subject: Subject) -> None:
    """The attributes that a data set may have."""
    for split in ("train", "test"):
        pairs = _split(subject, split)
        shards = getattr(pairs, "shards", None)
        if shards is not None:
            found = f"shards of {sum(shards)} pairs in all, but len() is {len(pairs)}, in the split {split!r}"
            require(sum(shards) == len(pairs) and all(count > 0 for count in shards), found)
        notices = getattr(pairs, "notices", ())
        texts = not isinstance(notices, str) and all(isinstance(notice, str) for notice in notices)
        require(texts, f"notices = {notices!r}, which is not a sequence of strings")
        ending = getattr(pairs, "target_ending", "")
        require(isinstance(ending, str) and ending[:1] in ("", "."), f"target_ending = {ending!r}")


CHECKS = (
    has_a_length, gives_pairs, has_unique_keys, has_true_headers, repeats_itself, works_in_workers,
    has_valid_attributes,
)  # fmt: skip
