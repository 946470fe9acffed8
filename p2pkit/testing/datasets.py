"""The contract of a data set (contracts.PairedDataset and its kin)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any, get_args

import numpy as np
from torch.utils.data import DataLoader, Dataset

from p2pkit.components.signature import splits_of
from p2pkit.contracts import Sample, SampleHeader, Split, dtype_range
from p2pkit.data.samples import Samples
from p2pkit.testing.checks import Subject, contract, require

LOOKED_AT = 6
"""Samples of a set that are read, the first and the last among them; of larger sets not all."""
HEADERS = 1000
"""Samples of a set whose keys are looked at, where it has headers."""


def _sets(subject: Subject) -> list[Samples]:
    """The sets that there are, as p2pkit reads them; sources and targets of an unpaired data set apart."""
    known, sets = splits_of(subject.registered), []
    for split in get_args(Split):
        if split in known:
            samples = Samples(subject.make(split=split), "the data set", split)
            sets += [samples] if samples.targets is None else [samples, samples.targets]
    return sets


def _places(count: int, most: int = LOOKED_AT) -> list[int]:
    """Up to ``most`` indices of ``count``, evenly from the first to the last."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(most, count))})


def _same(one: Sample, other: Sample) -> bool:
    sides = zip(one[:2], other[:2], strict=True)
    same_pixels = all(
        np.array_equal(*both) and getattr(both[0], "dtype", None) == getattr(both[1], "dtype", None) for both in sides
    )
    return same_pixels and one.key == other.key


def _require_same(one: Samples, other: Samples, found: str) -> None:
    require(len(one) == len(other), f"{found}: {len(other)} samples instead of {len(one)}")
    for index in _places(len(one)):
        require(_same(one[index], other[index]), f"{found}: the sample at {index} ({one[index].key})")


@contract("len() is the number of samples, 1 or more to train on, and an index beyond them is an IndexError")
def has_a_length(subject: Subject) -> None:
    """There is something to train on, and an end to it."""
    for samples in _sets(subject):
        trained = samples.split == "train"
        require(len(samples) or not trained, "no pair to train on; give the test a root or a url that has some")
    for split in splits_of(subject.registered):
        dataset = subject.make(split=split)
        try:
            dataset[len(dataset)]
        except IndexError:
            continue
        require(False, f"no IndexError for index {len(dataset)} of {len(dataset)} samples in the split {split!r}")


@contract("[index] is a Sample, a (source, target) or a dict of these, of images of one size with pixels as stored")
def gives_samples(subject: Subject) -> None:
    """Types and shapes of the samples of all sets."""
    for samples in _sets(subject):
        for index in _places(len(samples)):
            _require_sample(samples[index], f"at {index} of the split {samples.split!r}")


def _require_sample(sample: Sample, where: str) -> None:
    for name, pixels in (("source", sample.source), ("target", sample.target)):
        try:
            if pixels is not None:
                dtype_range(pixels.dtype)
        except KeyError:
            require(
                False, f"a {name} of {pixels.dtype}; integers of up to 32 bits, floats and bool are pixels, {where}"
            )
    if sample.source is not None and sample.target is not None:
        sizes = sample.source.shape[:2], sample.target.shape[:2]
        require(sizes[0] == sizes[1], f"sizes that differ, {sizes[0]} and {sizes[1]}, {where}")


@contract("keys are unique, within a set and between the sets")
def has_unique_keys(subject: Subject) -> None:
    """No file name is used twice, and no training sample is in another set."""
    sets = _sets(subject)
    keys = [[_key(samples, index) for index in _places(len(samples), _most(samples))] for samples in sets]
    for found in keys:
        twice = sorted({key for key in found if found.count(key) > 1})
        require(not twice, f"the same key of several samples: {', '.join(twice)}")
    for one, other in combinations(range(len(sets)), 2):
        both = sorted(set(keys[one]) & set(keys[other]))
        splits = f"{sets[one].split} and {sets[other].split}"
        require(not both, f"keys in both {splits}: {', '.join(both[:LOOKED_AT])}")


def _most(samples: Samples) -> int:
    return HEADERS if hasattr(samples, "header") else LOOKED_AT


def _key(samples: Samples, index: int) -> str:
    entry: SampleHeader | Sample = samples.header(index) if hasattr(samples, "header") else samples[index]
    return entry.key


@contract("header(index), if there is one, is the header of the sample, in threads too")
def has_true_headers(subject: Subject) -> None:
    """What the header scan before a run sees is what training reads."""
    for samples in _sets(subject):
        places = _places(len(samples))
        if not hasattr(samples, "header"):
            continue
        with ThreadPoolExecutor(4) as threads:
            headers = list(threads.map(samples.header, places))
        for index, header in zip(places, headers, strict=True):
            true = samples[index].header
            require(header == true, f"{tuple(header)}, but the sample itself is {tuple(true)}")


@contract("made again, or read again, it is the same: samples, order and fingerprint")
def repeats_itself(subject: Subject) -> None:
    """Runs are exact only on data that stays as it is."""
    for samples, again in zip(_sets(subject), _sets(subject), strict=True):
        _require_same(samples, samples, "read twice, pixels differ")
        _require_same(samples, again, "made twice, samples differ")
    for split in splits_of(subject.registered):
        dataset, again = subject.make(split=split), subject.make(split=split)
        if len(dataset) and callable(getattr(dataset, "fingerprint", None)):
            prints = [dataset.fingerprint(), dataset.fingerprint(), again.fingerprint()]
            require(len(set(prints)) == 1, f"several fingerprints of the same data: {prints}")
            require(isinstance(prints[0], str) and prints[0], f"the fingerprint {prints[0]!r}")


@contract("processes that load data can have it: forked, or pickled to those that are not, it gives the same samples")
def works_in_workers(subject: Subject) -> None:
    """loader.workers change nothing."""
    for samples in _sets(subject):
        if samples.split != "train":
            continue
        samples[0]  # files open by now must not prevent pickling
        _require_same(samples, pickle.loads(pickle.dumps(samples)), "pickled, it gives other samples")
        places = _places(len(samples))
        some = _Places(samples, places)
        loader: DataLoader[Any] = DataLoader(some, batch_size=None, num_workers=2, collate_fn=_as_it_is)
        for index, sample in zip(places, loader, strict=True):
            require(_same(samples[index], sample), f"another sample at {index} in a worker process")


class _Places(Dataset[Sample]):
    """Some samples, for workers."""

    def __init__(self, samples: Samples, places: Sequence[int]) -> None:
        self.samples, self.places = samples, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[self.places[index]]


def _as_it_is(sample: Any) -> Any:
    return sample


@contract("reduced(sizes), if there is one, gives the same samples, smaller by a whole factor, no smaller than sizes")
def reads_at_reduced_size(subject: Subject) -> None:
    """Large images are read so where a recipe resizes them to much less."""
    for samples in _sets(subject):
        for index in _places(len(samples)):
            whole = samples[index]
            for least in ((1, 1), *(image.shape[:2] for image in whole[:2] if isinstance(image, np.ndarray))):
                found = samples.reduced({"source": least, "target": least})[index]
                require(found.key == whole.key, f"the key {found.key!r} of what is {whole.key!r} at full size")
                for side in whole.header.sides:
                    if (image := whole.image(side)) is not None:  # an unpaired sample has one side alone
                        _require_reduced(found.image(side), image, least, f"{side} at {index}")


def _require_reduced(found: Any, whole: Any, least: tuple[int, int], where: str) -> None:
    shape, of = getattr(found, "shape", ()), getattr(whole, "shape", ())
    factors = {divmod(full, side) for full, side in zip(of[:2], shape[:2], strict=False) if side}
    by_one_factor = len(factors) == 1 and all(rest == 0 for _, rest in factors)
    enough = all(side >= min(full, low) for side, full, low in zip(shape[:2], of[:2], least, strict=False))
    right = by_one_factor and enough and shape[2:] == of[2:]
    require(right, f"{where}: {list(shape)} of {list(of)}, where at least {list(least)} was asked for")


@contract("key(index), if there is one, is the key of the sample, and group(index) a text")
def has_true_keys(subject: Subject) -> None:
    """A val set made of the train set is what these say."""
    for split in get_args(Split):
        if split not in splits_of(subject.registered):
            continue
        dataset = subject.make(split=split)
        samples = Samples(dataset, "the data set", split)
        for index in _places(len(dataset)) if callable(getattr(dataset, "key", None)) else ():
            key, true = dataset.key(index), samples[index].key
            require(key == true, f"key({index}) = {key!r}, but the sample's key is {true!r}")
        for index in _places(len(dataset)) if callable(getattr(dataset, "group", None)) else ():
            require(
                isinstance(dataset.group(index), str), f"group({index}) = {dataset.group(index)!r}, expected a text"
            )


@contract(
    "shards, notices, problems, target_ending, stored_as and planes, if there are any, are as contracts.py has them"
)
def has_valid_attributes(subject: Subject) -> None:
    """The attributes that a data set may have."""
    for split in splits_of(subject.registered):
        dataset = subject.make(split=split)
        shards = getattr(dataset, "shards", None)
        if shards is not None:
            wrong = f"shards of {sum(shards)} pairs in all, but len() is {len(dataset)}, in the split {split!r}"
            require(sum(shards) == len(dataset) and all(count > 0 for count in shards), wrong)
        for name in ("notices", "problems"):
            found = getattr(dataset, name, ())
            texts = not isinstance(found, str) and all(isinstance(each, str) for each in found)
            require(texts, f"{name} = {found!r}, which is not a sequence of strings")
        ending = getattr(dataset, "target_ending", "")
        require(isinstance(ending, str) and ending[:1] in ("", "."), f"target_ending = {ending!r}")
        stored_as = getattr(dataset, "stored_as", "")
        known = ("", "left half", "right half")
        require(stored_as in known, f"stored_as = {stored_as!r}; expected one of {known}")
        planes = getattr(dataset, "planes", None)
        wrong = f"planes = {planes!r}; expected a dict with the names axis, neighbours and orientation"
        require(planes is None or {"axis"} <= set(planes) <= {"axis", "neighbours", "orientation"}, wrong)


CHECKS = (
    has_valid_attributes, has_a_length, gives_samples, has_unique_keys, has_true_headers, has_true_keys, repeats_itself,
    reads_at_reduced_size, works_in_workers,
)  # fmt: skip
