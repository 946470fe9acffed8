"""Runs that are killed: whatever the moment, they resume and end as if nothing had happened."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Call
from tests.failing import WRITING

NEVER = 10**9


class Killed(BaseException):
    """Stands for a process that ends between two operations: nothing may clean up after it."""


OPERATIONS: list[tuple[Any, str]] = [
    (Path, "mkdir"), (Path, "replace"), (Path, "open"), (Path, "write_text"), (os, "fsync"), (shutil, "rmtree"),
    (Path, "touch"), (Path, "chmod"),
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
        pytest.param(OSError(errno.ENOSPC, "refused"), id="refused"),
        pytest.param(Killed(), id="killed"),
        *(
            pytest.param(OSError(code, "refused"), id=f"refused {code}", marks=pytest.mark.slow)
            for code in range(1, 11)
        ),
    ],
)
def test_the_run_resumes_whichever_operation_of_a_checkpoint_fails(
    failure: BaseException | int, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    """Each operation fails with another error of the system, or all of these at each in eleven turns."""
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    assert p2pkit("run", recipe, "--out", whole).code == 0
    operations = run_that_fails_at(NEVER, Killed(), recipe, tmp_path / "counted", p2pkit)
    assert operations > 20
    for number in range(1, operations + 1):
        shutil.rmtree(begun, ignore_errors=True)
        code = WRITING[(number + failure) % len(WRITING)] if isinstance(failure, int) else 0
        fails = failure if isinstance(failure, BaseException) else OSError(code, os.strerror(code))
        run_that_fails_at(number, fails, recipe, begun, p2pkit)
        resumed = p2pkit("run", "--resume", begun)
        assert resumed.code == 0, f"operation {number}: {resumed.err}"
        assert contents(begun) == contents(whole), f"operation {number}"
        assert not list(begun.rglob("*.part")), f"operation {number}"


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
    resumed = p2pkit("run", "--resume", run, "--set", "train.max_steps=1")
    assert resumed.code == 0, resumed.err
