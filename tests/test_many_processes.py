"""Two processes under torchrun: one run folder, and the weights that one process gives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import Call

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "p2pkit"]
WITHOUT_STATISTICS = (
    "generator.norm=instance", "discriminator.norm=instance", "generator.dropout=0.0", "optimizer.name=sgd",
    "optimizer.lr=0.01",
)  # fmt: skip


def launch(*arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*LAUNCH, *map(str, arguments), "--device", "cpu"], env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def settings() -> list[str]:
    return [part for setting in WITHOUT_STATISTICS for part in ("--set", setting)]


def test_two_processes_give_the_weights_of_one(recipe: Path, tmp_path: Path, p2pkit: Call, settings: list[str]) -> None:
    assert p2pkit("run", recipe, "--out", tmp_path / "one", *settings, "--device", "cpu").code == 0
    running = launch("run", recipe, "--out", tmp_path / "two", *settings)
    out, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert out.count("held_out/mae") == 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 5


def test_a_mistake_ends_all_processes(recipe: Path, tmp_path: Path) -> None:
    running = launch("run", recipe, "--out", tmp_path / "run", "--set", "loader.batch_size=3")
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "make it a multiple of 2" in errors


def test_bad_data_ends_all_processes_before_the_run_begins(recipe: Path, pairs: Path, tmp_path: Path) -> None:
    file = pairs / "train" / "3.png"
    file.write_bytes(file.read_bytes()[:300])
    running = launch("run", recipe, "--out", tmp_path / "run")
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0 and not (tmp_path / "run").exists()
    assert errors.count(f"{file}: the image cannot be read") == 1


def test_an_interruption_stops_all_processes_at_one_step(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    out = tmp_path / "run"
    running = launch("run", recipe, "--out", out, "--set", "train.max_steps=100000")
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    (step,) = {int(number) for number in re.findall(r"interrupted at step (\d+)", errors)}
    assert (out / "checkpoints" / f"step_{step:08}").is_dir()
    resolved = out / "recipe.toml"
    resolved.write_text(resolved.read_text().replace("max_steps = 100000", f"max_steps = {step + 2}"))
    resumed = p2pkit("run", "--resume", out, "--device", "cpu")
    assert resumed.code == 0 and f"going on from step {step}" in resumed.err
