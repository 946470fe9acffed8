"""The order of pairs: each epoch's own, the same for any number of processes, near in shards where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice, pairwise

import pytest

from p2pkit.data import loader
from p2pkit.data.loader import EpochSampler

SHARDS = [7, 0, 12, 9, 12, 1, 10, 12]
"""Sixty-three pairs in shards of different sizes."""
Batches = list[list[tuple[int, int, int]]]


def order(
    shards: Sequence[int] | None, first_step: int = 0, rank: int = 0, processes: int = 1, steps: int = 40
) -> Batches:
    made = EpochSampler(63, 4, seed=0, first_step=first_step, rank=rank, processes=processes, shards=shards)
    return list(islice(made, steps))


@pytest.fixture(params=["alike", "in shards"])
def shards(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sequence[int] | None:
    monkeypatch.setattr(loader, "WINDOW", 6)  # so that a lane, of fifteen pairs, has three
    return None if request.param == "alike" else SHARDS


def test_an_epoch_visits_each_pair_once_in_an_order_of_its_own(shards: Sequence[int] | None) -> None:
    batches = order(shards)
    assert [len(batch) for batch in batches] == [4] * 40
    for epoch in range(2):
        seen = [index for batch in batches for number, index in batch if number == epoch]
        assert len(seen) == len(set(seen)) == 60 and set(seen) <= set(range(63))
    orders = [[index for batch in batches[15 * epoch : 15 * epoch + 15] for _, index in batch] for epoch in range(2)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("first_step", [1, 6, 14, 15, 22])
def test_the_order_resumes_in_the_middle_of_an_epoch(shards: Sequence[int] | None, first_step: int) -> None:
    assert order(shards, first_step=first_step)[:15] == order(shards)[first_step : first_step + 15]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_one_global_batch(shards: Sequence[int] | None, processes: int) -> None:
    shares = [order(shards, rank=rank, processes=processes) for rank in range(processes)]
    assert [list(chain(*batch)) for batch in zip(*shares, strict=True)] == order(shards)


@pytest.mark.parametrize("processes", [1, 2])
def test_targets_are_drawn_by_epoch_and_place_whatever_the_process_and_the_first_step(processes: int) -> None:
    def drawn(first_step: int, processes: int, seed: int = 0) -> list[list[tuple[int, ...]]]:
        samplers = [EpochSampler(9, 4, seed, first_step, rank, processes, targets=5) for rank in range(processes)]
        return [list(chain(*parts)) for parts in islice(zip(*samplers, strict=True), 12)]

    batches = drawn(0, 1)
    assert drawn(0, processes) == batches and drawn(3, processes)[:9] == batches[3:]
    assert [[at[:2] for at in batch] for batch in batches] == list(islice(EpochSampler(9, 4, 0, 0, 0, 1), 12))
    targets = [target for batch in batches for _, _, target in batch]
    assert set(targets) == set(range(5)) and targets[:8] != targets[8:16]
    assert targets != [target for batch in drawn(0, 1, seed=1) for _, _, target in batch]


def test_a_process_reads_its_shards_one_after_another() -> None:
    shards = [2500] * 40
    batches = islice(EpochSampler(100_000, 8, seed=3, first_step=0, rank=1, processes=4, shards=shards), 12_500)
    read = [[index // 2500 for _, index in batch] for batch in batches]
    # two lanes of 12500 pairs touch five shards each, and one more where they begin within one
    assert len({shard for batch in read for shard in batch}) <= 12
    for lane in range(2):
        for start in range(0, 12_500, 1000):
            assert len({batch[lane] for batch in read[start : start + 1000]}) <= 2


def test_what_is_near_in_a_shard_does_not_stay_so() -> None:
    batches = islice(EpochSampler(100_000, 1, seed=0, first_step=0, rank=0, processes=1, shards=[1000] * 100), 100_000)
    indices = [index for ((_, index),) in batches]
    followed = sum(abs(one - next_one) == 1 for one, next_one in pairwise(indices))
    assert followed < 1000
    assert [index // 1000 for index in indices] != sorted(index // 1000 for index in indices)


def test_an_epoch_has_several_crops_of_each_pair_one_after_another(shards: Sequence[int] | None) -> None:
    def batches(first_step: int, steps: int, rank: int = 0, processes: int = 1) -> list[list[tuple[int, int, int]]]:
        made = EpochSampler(63, 4, 0, first_step, rank, processes, shards, crops=3)
        return [[(epoch, *divmod(number, 3)) for epoch, number in batch] for batch in islice(made, steps)]

    whole = batches(0, 47 + 9)
    samples = [sample for batch in whole[:47] for sample in batch]
    assert len(set(samples)) == len(samples) == 47 * 4 and {crop for _, _, crop in samples} == {0, 1, 2}
    assert {epoch for epoch, _, _ in samples} == {0} and whole[47][0][0] == 1
    assert [batches(step, 5) for step in (1, 20, 46)] == [whole[step : step + 5] for step in (1, 20, 46)]
    shares = [batches(0, 56, rank, 2) for rank in range(2)]
    assert [one + other for one, other in zip(*shares, strict=True)] == whole
    # each process of a batch reads on in its own shards, where there are any
    read = samples if shards is None else [sample for batch in whole[:47] for sample in batch[:1]]
    assert sum(one[1] == next_one[1] for one, next_one in pairwise(read)) > len(read) / 2


def test_the_first_crops_are_what_one_crop_an_image_would_be() -> None:
    batches = list(islice(EpochSampler(63, 3, 0, 0, 0, 1, crops=3), 63))
    assert all(number % 3 == 0 for batch in batches for _, number in batch[:1])
    firsts = [(epoch, number // 3) for batch in batches for epoch, number in batch[:1]]
    assert firsts == list(chain(*islice(EpochSampler(63, 3, 0, 0, 0, 1), 21)))
