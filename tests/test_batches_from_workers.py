"""Batches that workers make are those that the process itself makes, whatever their sizes, and stay as they are."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from p2pkit.contracts import Batch, Sample
from p2pkit.data.augmentation import Augmentation, SampleSpec
from p2pkit.data.loader import EpochSampler, Examples, batches
from p2pkit.data.samples import Samples
from p2pkit.errors import DataError
from p2pkit.images.pixels import PLAIN_READING
from p2pkit.settings import LoaderSettings, TransformSettings
from tests.conftest import picture

SAMPLES, BATCHES = 12, 20


class Growing:
    """Pairs of several sizes, larger ones among smaller ones, with masks if they are to have some."""

    def __init__(self, masked: bool, broken: int | None = None) -> None:
        self.masked, self.broken = masked, broken

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Sample:
        if index == self.broken:
            raise DataError("this one is broken")
        height, width = 16 + 7 * (index % 5), 40 - 3 * (index % 4)
        source, target = (picture(height, width, seed=index + 100 * side) for side in range(2))
        return Sample(
            source, target, str(index), np.full((height, width, 1), 9 * index, np.uint8) if self.masked else None
        )


def examples(dataset: Growing, **transform: Any) -> Examples:
    samples = Samples(dataset, "growing", "train")
    as_stored = None, PLAIN_READING
    spec = SampleSpec(samples[0].header, {"source": as_stored, "target": as_stored}, has_mask=dataset.masked)
    return Examples(samples, spec, Augmentation(TransformSettings(**transform), 0), LoaderSettings())


def drawn(made: Examples, workers: int, batch_size: int) -> list[Batch]:
    sampler = EpochSampler(SAMPLES, batch_size, 0, 0, 0, 1)
    loaded = batches(made, sampler, LoaderSettings(batch_size=batch_size, workers=workers))
    return [each.batch for each in islice(loaded, BATCHES)]


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[None]:
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(None, force=True)


@pytest.mark.usefixtures("start")
@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)], indirect=["start"])
def test_they_are_the_same_and_stay_so_while_others_follow(workers: int) -> None:
    made = examples(Growing(masked=workers == 2))
    for own, sent in zip(drawn(made, 0, 1), drawn(made, workers, 1), strict=True):
        assert own.keys == sent.keys
        assert torch.equal(own.source, sent.source) and torch.equal(own.target, sent.target)
        assert own.mask is sent.mask is None or torch.equal(own.mask, sent.mask)


def test_they_are_stacked_where_they_are_of_one_size() -> None:
    made = examples(Growing(masked=True), load_size=20, crop_size=16, flip=True)
    for own, sent in zip(drawn(made, 0, 4), drawn(made, 2, 4), strict=True):
        assert own.keys == sent.keys and sent.source.shape == (4, 3, 16, 16)
        assert torch.equal(own.source, sent.source) and torch.equal(own.target, sent.target)


def test_what_is_wrong_with_a_sample_arrives() -> None:
    with pytest.raises(DataError, match="this one is broken"):
        drawn(examples(Growing(masked=False, broken=5)), 1, 1)
