"""Training on shards through the command line: exact, whatever the workers, the interruptions and the processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from p2pkit.data import loader
from p2pkit.data.loader import EpochSampler
from p2pkit_webdataset import dataset
from p2pkit_webdataset.dataset import WebDataset
from p2pkit_webdataset.shard import open_shard
from tests.conftest import Call

SETTINGS = ("train.max_steps=7", "train.checkpoint_every=2")
SEVEN_STEPS = ("--device", "cpu", *(word for setting in SETTINGS for word in ("--set", setting)))


def results(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl", "samples/step_00000007.png")]


@pytest.fixture
def trained(program: Call, sharded: Path, tmp_path: Path) -> Path:
    outcome = program("run", sharded, "--out", tmp_path / "trained", *SEVEN_STEPS)
    assert outcome.code == 0 and "validation/mae" in outcome.out, outcome.err
    return tmp_path / "trained"


def test_workers_change_nothing(program: Call, sharded: Path, trained: Path, tmp_path: Path) -> None:
    outcome = program("run", sharded, "--out", tmp_path / "run", *SEVEN_STEPS, "--set", "loader.workers=2")
    assert outcome.code == 0, outcome.err
    one, two = (load_file(run / "model.safetensors") for run in (tmp_path / "run", trained))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert results(tmp_path / "run")[1:] == results(trained)[1:]


def test_a_run_killed_in_the_middle_of_an_epoch_resumes_exactly(
    program: Call, plugins: Path, sharded: Path, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    command = ["--plugins-dir", plugins, "run", sharded, "--out", run, *SEVEN_STEPS]
    running = subprocess.Popen(
        [sys.executable, "-m", "p2pkit", *map(str, command)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "step_00000002").exists():  # an epoch has three steps
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    resumed = program("run", "--resume", run, "--device", "cpu")
    assert resumed.code == 0 and "resuming from step" in resumed.err, resumed.err
    assert results(run) == results(trained)


def test_a_run_reads_each_shard_once_an_epoch(
    program: Call, sharded: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def opening(file: Path, name: str) -> int:
        opened.append(file)
        return open_shard(file, name)

    monkeypatch.setattr(dataset, "open_shard", opening)
    monkeypatch.setattr(dataset, "OPEN_SHARDS", 1)
    monkeypatch.setattr(loader, "WINDOW", 2)
    settings = ("loader.batch_size=1", "train.max_steps=60", "train.sample_every=100", "train.checkpoint_every=60")
    words = [word for setting in settings for word in ("--set", setting)]
    assert program("run", sharded, "--out", tmp_path / "run", *words).code == 0
    trained_on = [file for file in opened if file.parent == shards / "train"]
    # ten epochs of three shards, and the first pair before and after; in random order it would be some fifty
    assert len(trained_on) <= 34


def test_every_process_sees_its_share_of_the_same_batches(shards: Path) -> None:
    pairs = WebDataset("train", shards)

    def keys(rank: int, processes: int) -> list[list[str]]:
        batches = EpochSampler(len(pairs), 2, seed=0, first_step=0, rank=rank, processes=processes, shards=pairs.shards)
        return [[pairs[index].key for _, index in batch] for batch in islice(batches, 9)]

    shares = zip(keys(0, 2), keys(1, 2), strict=True)
    assert [one + two for one, two in shares] == keys(0, 1)


def test_other_shards_are_noticed(program: Call, shards: Path, recipe: Path, trained: Path) -> None:
    shutil.rmtree(shards)
    assert program("data", "shard", recipe, "--out", shards, "--pairs-per-shard", 3).code == 0
    resumed = program("run", "--resume", trained)
    assert resumed.code == 2 and "--accept-changed-data" in resumed.err


def test_data_check_reads_shards(program: Call, sharded: Path, shards: Path) -> None:
    assert "all 8 pairs can be used" in program("data", "check", sharded).out
    shard = shards / "train" / "shard-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b"IDAT", b"IDAX", 1))
    outcome = program("data", "check", sharded)
    assert outcome.code == 2 and "1 of 8 pairs cannot be used" in outcome.err
    assert f"{shard}: " in outcome.err and "this is not an image that can be read" in outcome.err


def test_shards_can_be_sharded_again(program: Call, sharded: Path, tmp_path: Path) -> None:
    outcome = program("data", "shard", sharded, "--out", tmp_path / "again", "--pairs-per-shard", 4)
    assert outcome.code == 0, outcome.err
    first, again = (WebDataset("train", tmp_path / name) for name in ("shards", "again"))
    assert first.shards == [2, 2, 2] and again.shards == [4, 2]
    assert {first[index].key for index in range(6)} == {again[index].key for index in range(6)}
