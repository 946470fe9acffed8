"""Runs that are killed: whatever the moment, they resume and end as if nothing had happened."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Call

NEVER = 10**9


class Killed(BaseException):
    """Stands for a process that ends between two operations: nothing may clean up after it."""


OPERATIONS: list[tuple[Any, str]] = [
    (Path, "mkdir"), (Path, "replace"), (Path, "open"), (Path, "write_text"), (os, "fsync"), (shutil, "rmtree"),
    ("p2pkit.training.checkpoint", "save_file"), ("safetensors.torch", "save_file"),
]  # fmt: skip


@contextmanager
def failing_at(count: int, failure: BaseException) -> Iterator[list[int]]:
    """Let the ``count``-th operation on files fail; after a kill, all that follow do nothing."""
    seen = [0]
    dead = isinstance(failure, Killed)

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            seen[0] += 1
            if seen[0] == count or (dead and seen[0] > count):
                raise failure
            return original(*arguments, **options)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for place, name in OPERATIONS:
            if isinstance(place, str):
                patch.setattr(f"{place}.{name}", wrapped(getattr(sys.modules[place], name)))
            else:
                patch.setattr(place, name, wrapped(getattr(place, name)))
        if dead:
            patch.setattr(Path, "unlink", lambda *_, **__: None)
        yield seen


def contents(run: Path) -> dict[str, bytes]:
    names = ["model.safetensors", "metrics.jsonl", "samples/step_00000004.png"]
    return {name: (run / name).read_bytes() for name in names}


def run_that_fails_at(number: int, failure: BaseException, recipe: Path, run: Path, p2pkit: Call) -> int:
    """Train, and let one operation of the last checkpoint fail; how many there were when none has failed."""
    from p2pkit.training.outputs import Outputs

    save, operations = Outputs.save, 0

    def failing(self: Outputs, state: Any, metrics: Any) -> None:
        nonlocal operations
        if state.step < 4:
            return save(self, state, metrics)
        with failing_at(number, failure) as seen:
            save(self, state, metrics)
        operations = seen[0]
        raise Killed

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(Outputs, "save", failing)
        assert p2pkit("run", recipe, "--out", run).code == 2
    return operations


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(OSError(errno.ENOSPC, "full"), id="full"),
        pytest.param(Killed(), id="killed"),
        pytest.param(OSError(errno.EIO, "broken"), id="broken", marks=pytest.mark.slow),
    ],
)
def test_the_run_resumes_whichever_operation_of_a_checkpoint_fails(
    failure: BaseException, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    assert p2pkit("run", recipe, "--out", whole).code == 0
    operations = run_that_fails_at(NEVER, failure, recipe, tmp_path / "counted", p2pkit)
    assert operations > 20
    for number in range(1, operations + 1):
        shutil.rmtree(begun, ignore_errors=True)
        run_that_fails_at(number, failure, recipe, begun, p2pkit)
        resumed = p2pkit("run", "--resume", begun)
        assert resumed.code == 0, f"operation {number}: {resumed.err}"
        assert contents(begun) == contents(whole), f"operation {number}"
        assert not list(begun.rglob("*.part")), f"operation {number}"


def killed_and_resumed(recipe: Path, folder: Path, kills: int, seed: int) -> None:
    """Run ``recipe``, killing it ``kills`` times at random moments, and compare with a run that was left alone."""
    limits = (f"train.max_steps={60 * kills}", "train.checkpoint_every=3", "train.sample_every=7", "train.log_every=5")
    kept = ("train.ema_decay=0.9", "validation.every=4")
    settings = [part for setting in (*limits, *kept) for part in ("--set", setting)]
    program = [sys.executable, "-m", "p2pkit", "run"]
    alone, killed = folder / "alone", folder / "killed"
    subprocess.run([*program, recipe, "--out", alone, *settings], check=True, capture_output=True)
    moments = random.Random(seed)
    for _ in range(kills):
        trained = (killed / "model.safetensors").exists()
        command = [*program, "--resume", killed] if trained else [*program, recipe, "--out", killed, *settings]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running = subprocess.Popen(command, start_new_session=True, **quiet)
        metrics = killed / "metrics.jsonl"
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
    subprocess.run([*program, "--resume", killed], check=True, capture_output=True)
    for name in ("model.safetensors", "best.safetensors", "metrics.jsonl", "samples/step_00000056.png"):
        assert (killed / name).read_bytes() == (alone / name).read_bytes(), name


def test_a_killed_run_goes_on_at_once_although_its_workers_live_on(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    settings = ("--set", "loader.workers=2", "--set", "train.max_steps=100000", "--set", "train.checkpoint_every=1")
    run = tmp_path / "run"
    running = subprocess.Popen([sys.executable, "-m", "p2pkit", "run", recipe, "--out", run, *settings])
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoints/step_*")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    running.kill()
    running.wait()
    resolved = run / "recipe.toml"
    resolved.write_text(resolved.read_text().replace("max_steps = 100000", "max_steps = 1"))
    resumed = p2pkit("run", "--resume", run)
    assert resumed.code == 0, resumed.err


def test_a_run_killed_twice_ends_as_one_left_alone(recipe: Path, tmp_path: Path) -> None:
    killed_and_resumed(recipe, tmp_path, kills=2, seed=1)


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_as_one_left_alone(recipe: Path, tmp_path: Path) -> None:
    killed_and_resumed(recipe, tmp_path, kills=20, seed=2)
