"""Data sets that break their contract."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from p2pkit.contracts import Sample, SampleHeader, Split
from p2pkit.testing import datasets
from tests.broken import Broken


class Good:
    """A data set as it should be."""

    count = 3

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return Sample(self.pixels(index), 255 - self.pixels(index), self.key(index))

    def pixels(self, index: int) -> Any:
        return np.random.default_rng(index).integers(0, 255, (4, 6, 3), dtype=np.uint8)

    def key(self, index: int) -> str:
        return f"{self.split}/{index}"

    def fingerprint(self) -> str:
        return f"{self.split} {self.count}"


class Empty(Good):
    """A data set without pairs."""

    count = 0


class Endless(Good):
    """A data set that begins again behind its end."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index % self.count)


class FourDimensions(Good):
    """A data set of batches of one."""

    def pixels(self, index: int) -> Any:
        return super().pixels(index)[None]


class Unequal(Good):
    """A data set whose sources and targets differ in size."""

    def __getitem__(self, index: int) -> Any:
        pair = super().__getitem__(index)
        return pair._replace(target=pair.target[1:])


class Wide(Good):
    """A data set of integers of 64 bits."""

    def pixels(self, index: int) -> Any:
        return super().pixels(index).astype(np.int64)


class OtherNames(Good):
    """A data set of dicts with other names."""

    def __getitem__(self, index: int) -> Any:
        pair = super().__getitem__(index)
        return {"image": pair.source, "label": pair.target}


class OneKey(Good):
    """A data set that calls all pairs the same."""

    def key(self, index: int) -> str:
        return self.split


class TestPairsInTrain(Good):
    """A data set that holds out what it trains on."""

    def key(self, index: int) -> str:
        return str(index)


class WrongHeaders(Good):
    """A data set whose headers are of other pixels."""

    def header(self, index: int) -> SampleHeader:
        return SampleHeader((6, 4, 3), (6, 4, 3), self.key(index))


class Unstable(Good):
    """A data set that draws anew at each reading."""

    def pixels(self, index: int) -> Any:
        return np.random.default_rng().integers(0, 255, (4, 6, 3), dtype=np.uint8)


class NewFingerprint(Good):
    """A data set whose fingerprint is of the object, not of the data."""

    def fingerprint(self) -> str:
        return str(id(self))


class NumberedFingerprint(Good):
    """A data set whose fingerprint is a number."""

    def fingerprint(self) -> Any:
        return self.count


class Locked(Good):
    """A data set with what cannot be pickled."""

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self.lock = threading.Lock()


class AtHomeOnly(Good):
    """A data set that gives other pixels in other processes."""

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self.home = os.getpid()

    def pixels(self, index: int) -> Any:
        return super().pixels(index if os.getpid() == self.home else index + 1)


class LostShard(Good):
    """A data set whose shards do not hold all of its pairs."""

    shards = (1, 1)


class OneNotice(Good):
    """A data set whose notices are one text."""

    notices = "this text has many letters"


class OneProblem(Good):
    """A data set whose problems are one text."""

    problems = "a file has no partner"


class OtherKeys(Good):
    """A data set whose samples have other keys than it says."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)._replace(key=f"{self.split}/number {index}")


class NumberedGroups(Good):
    """A data set whose groups are numbers."""

    def group(self, index: int) -> int:
        return index


class NoDot(Good):
    """A data set that gives the ending of its files without a dot."""

    target_ending = "png"


class Middle(Good):
    """A data set whose sources are parts of files that nobody knows."""

    stored_as = "middle"


class TooSmall(Good):
    """A data set that reads images at half their size, whatever is asked for."""

    half = False

    def pixels(self, index: int) -> Any:
        return super().pixels(index)[:: 2 if self.half else 1, :: 2 if self.half else 1]

    def reduced(self, sizes: Any) -> Any:
        made = type(self)(self.split)
        made.half = True
        return made


BROKEN = [
    Broken("datasets", check, factory, found)
    for check, factory, found in (
        (datasets.has_a_length, Empty, "no pair to train on"),
        (datasets.has_a_length, Endless, "no IndexError for index 3"),
        (datasets.gives_samples, FourDimensions, "as its source a ndarray of shape (1, 4, 6, 3)"),
        (datasets.gives_samples, Unequal, "sizes that differ"),
        (datasets.gives_samples, Wide, "a source of int64"),
        (datasets.gives_samples, OtherNames, "a dict with the names image, label"),
        (datasets.has_unique_keys, OneKey, "the same key of several samples: train"),
        (datasets.has_unique_keys, TestPairsInTrain, "keys in both train and val: 0, 1, 2"),
        (datasets.has_true_headers, WrongHeaders, "((6, 4, 3), (6, 4, 3), 'train/0', "),
        (datasets.repeats_itself, Unstable, "read twice, pixels differ"),
        (datasets.repeats_itself, NewFingerprint, "several fingerprints"),
        (datasets.repeats_itself, NumberedFingerprint, "the fingerprint 3"),
        (datasets.works_in_workers, Locked, "pickle"),
        (datasets.works_in_workers, AtHomeOnly, "in a worker process"),
        (datasets.has_valid_attributes, LostShard, "shards of 2 pairs in all, but len() is 3"),
        (datasets.has_valid_attributes, OneNotice, "not a sequence of strings"),
        (datasets.has_valid_attributes, OneProblem, "problems = 'a file has no partner', which is not"),
        (datasets.has_true_keys, OtherKeys, "/0', but the sample's key is '"),
        (datasets.has_true_keys, NumberedGroups, "group(0) = 0, expected a text"),
        (datasets.has_valid_attributes, NoDot, "target_ending = 'png'"),
        (datasets.reads_at_reduced_size, TooSmall, "source at 0: [2, 3, 3] of [4, 6, 3], where at least [4, 6] was"),
        (datasets.has_valid_attributes, Middle, "stored_as = 'middle'"),
    )
]
