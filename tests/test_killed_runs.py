"""Runs that SIGKILL ends at random moments, and runs resumed in other processes: the same bytes as one left alone."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import SMALLEST, Call, distribution, train
from tests.test_many_processes import WITHOUT_STATISTICS, assert_same_weights, launch, trainers, wait_for

COUNTER = '''
"""A stranger's callback with a state that shows in what it writes."""

import torch

import p2pkit


class Counter:
    """Adds up what it is told of."""

    def __init__(self) -> None:
        self.events, self.total = {}, torch.zeros(2, dtype=torch.float64)

    def on_step_end(self, run: object) -> None:
        self.events["steps"] = self.events.get("steps", 0) + 1
        self.total[0] += run.step ** 0.5

    def on_validation_end(self, run: object) -> None:
        self.events["validations"] = self.events.get("validations", 0) + 1
        self.total[1] += run.metrics["validation/mae"]

    def on_train_end(self, run: object) -> None:
        (run.run_dir / "counted.txt").write_text(f"{self.events} {self.total.tolist()}")

    def state_dict(self) -> dict:
        return {"events": self.events, "total": self.total}

    def load_state_dict(self, state: dict) -> None:
        self.events, self.total = state["events"], state["total"]


@p2pkit.hookimpl
def register_callbacks(register: object) -> None:
    register("counter", Counter)
'''
EVERYTHING = """
[validation]
every = 3

[optimizer]
lr = 0.3

[schedule]
name = "plateau"
factor = 0.5
patience = 0
warmup = 4

[[callbacks]]
name = "counter"

[[augmentations]]
name = "rotate90"

[[augmentations]]
name = "affine"
rotation = 20

[[augmentations]]
name = "noise"
"""
OFTEN = (
    "train.checkpoint_every=3", "train.sample_every=7", "train.log_every=5", "train.ema_decay=0.9",
    "train.accumulate=2", "loader.batch_size=4", "loader.workers=1",
)  # fmt: skip


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    """A folder for --plugins-dir with the callback."""
    folder = distribution(tmp_path / "plugins", "counting", "1.0", {"counting": "counting"})
    (folder / "counting.py").write_text(COUNTER)
    return folder


def killed_and_resumed(recipe: Path, counting: Path, folder: Path, kills: int, seed: int) -> None:
    """Run ``recipe``, killing it ``kills`` times at random moments, and compare with a run that was left alone."""
    recipe.write_text(recipe.read_text() + EVERYTHING)
    steps = 30 * kills
    settings = [part for setting in (*OFTEN, f"train.max_steps={steps}") for part in ("--set", setting)]
    program = [sys.executable, "-m", "p2pkit", "--plugins-dir", str(counting), "run"]
    alone, killed = folder / "alone", folder / "killed"
    to_its_end([*program, recipe, "--out", alone, *settings])
    moments = random.Random(seed)
    command = [*program, recipe, "--out", killed, "--continue", *settings]
    for _ in range(kills):
        kill_at_some_moment(command, killed / "metrics.jsonl", moments)
    to_its_end(command)
    last = Path("checkpoints") / f"step_{steps:08}"
    names = ["model.safetensors", "best.safetensors", "metrics.jsonl", "counted.txt", "samples/step_00000028.png"]
    names += [str(last / file.name) for file in (alone / last).iterdir() if file.suffix == ".safetensors"]
    assert len(names) == 8, names  # networks, optimizers, and the tensors of the callback
    for name in names:
        assert (killed / name).read_bytes() == (alone / name).read_bytes(), name
    assert f"'steps': {steps}" in (alone / "counted.txt").read_text()
    rates = re.findall(r'"generator/lr": ([0-9.e-]+)', (alone / "metrics.jsonl").read_text())
    assert float(rates[-1]) < 0.3, "the plateau schedule has not lowered the rate"


def to_its_end(command: Sequence[object]) -> None:
    """Run a command in a process of its own; it must succeed."""
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def kill_at_some_moment(command: Sequence[object], metrics: Path, moments: random.Random) -> None:
    """Start a run, and kill it and its workers within half a second after it has begun to write metrics."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(list(map(str, command)), start_new_session=True, **quiet)
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    deadline = time.monotonic() + 120
    while running.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.stat().st_mtime_ns != before:
            break
        time.sleep(0.005)
    time.sleep(moments.uniform(0.0, 0.4))
    assert running.poll() is None, "the run has ended before it could be killed"
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def test_a_killed_run_ends_as_one_left_alone(recipe: Path, counting: Path, tmp_path: Path) -> None:
    killed_and_resumed(recipe, counting, tmp_path, kills=1, seed=1)


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_as_one_left_alone(recipe: Path, counting: Path, tmp_path: Path) -> None:
    killed_and_resumed(recipe, counting, tmp_path, kills=20, seed=2)


TIMM = (
    f'generator={{name = "timm_unet", backbone = "{SMALLEST}", width = 4, pretrained = false, '
    "timm = {out_indices = [0, 1, 2]}}"
)
SETTINGS = {
    "timm": (TIMM, "train.ema_decay=0.9"),
    "spectral norm": (
        "discriminator.spectral_norm=true", 'losses=[{name = "hinge"}, {name = "r1", weight = 10}]',
        "discriminator.norm=instance", "discriminator_augmentation.probability=0.5",
    ),
    "both, in bf16": (
        TIMM, "discriminator.spectral_norm=true", "discriminator.norm=none", "train.precision=bf16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_another_process_resumes_to_the_same_bytes(setting: str, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    program = [sys.executable, "-m", "p2pkit", "run"]
    settings = (
        *SETTINGS[setting],
        "train.max_steps=6",
        "train.log_every=2",
        "transform.crop_size=32",
        "transform.load_size=36",
    )
    words = [part for each in settings for part in ("--set", each)]
    whole = train(p2pkit, recipe, tmp_path / "whole", *settings)
    cut = tmp_path / "cut"
    stopping = subprocess.Popen([*map(str, [*program, recipe, "--out", cut, *words])], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (cut / "checkpoints" / "step_00000002").exists() and stopping.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    stopping.kill()
    stopping.wait()
    resumed = p2pkit("run", "--resume", cut)
    assert resumed.code == 0 and "resuming from step" in resumed.err, resumed.err
    for name in ("networks.safetensors", "optimizers.safetensors"):
        file = Path("checkpoints") / "step_00000006" / name
        assert (whole / file).read_bytes() == (cut / file).read_bytes(), name
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()


def test_one_process_resumes_what_two_have_begun(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    settings = [part for each in (*WITHOUT_STATISTICS, "train.ema_decay=0.5") for part in ("--set", each)]
    alone, moved = tmp_path / "alone", tmp_path / "moved"
    running = launch(
        "run", recipe, "--out", moved, *settings, "--set", "train.max_steps=100000", "--set", "train.checkpoint_every=5"
    )
    wait_for(moved / "checkpoints" / "step_00000005", running)
    for process in trainers(running):
        process.kill()
    running.communicate(timeout=60)
    step = max(int(folder.name.removeprefix("step_")) for folder in (moved / "checkpoints").glob("step_*"))
    end = ("--set", f"train.max_steps={step + 4}")
    resumed = p2pkit("run", "--resume", moved, "--device", "cpu", *end)
    assert resumed.code == 0 and f"resuming from step {step}" in resumed.err, resumed.err
    assert p2pkit("run", recipe, "--out", alone, *settings, *end, "--device", "cpu").code == 0
    assert_same_weights(alone, moved)
    files = [run / "checkpoints" / f"step_{step + 4:08}" / "networks.safetensors" for run in (alone, moved)]
    ours, theirs = map(load_file, files)
    assert max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours) < 1e-5
    logged = [json.loads(line)["step"] for line in (moved / "metrics.jsonl").read_text().splitlines()]
    assert logged[:step] == list(range(1, step + 1)), "a step is logged twice or not at all"
