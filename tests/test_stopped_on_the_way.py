"""Runs that stop between a step and the last thing that is due at it, and checkpoints that are damaged or unlike."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.errors import Unavailable
from p2pkit.evaluation.driver import Driver
from p2pkit.training.trainer import Trainer
from tests.conftest import Call, lines, steps_of_checkpoints, train
from tests.test_bad_pairs import spoil_the_middle
from tests.test_crashes import Killed, failing_at
from tests.test_many_processes import launch_alone

MEASURED = ("train.max_steps=6", "train.checkpoint_every=100", "validation.every=2", "train.sample_every=2")


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def assert_same_end(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "best.safetensors", "metrics.jsonl", "samples/step_00000002.png"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_signal_while_measuring_loses_no_measurement(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, stopped = train(p2pkit, recipe, tmp_path / "alone", *MEASURED), tmp_path / "stopped"
    measure = Driver.measure

    def interrupted(self: Driver, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Driver, "measure", interrupted)
        assert p2pkit("run", recipe, "--out", stopped, *words(*MEASURED)).code == 143
    assert steps_of_checkpoints(stopped) == [2]
    assert p2pkit("run", "--resume", stopped).code == 0
    assert_same_end(alone, stopped)


def test_test_data_that_is_mended_loses_no_measurement(recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    alone, stopped = train(p2pkit, recipe, tmp_path / "alone", *MEASURED), tmp_path / "stopped"
    whole = (pairs / "test" / "1.png").read_bytes()
    spoil_the_middle(pairs / "test" / "1.png")
    outcome = p2pkit("run", recipe, "--out", stopped, *words(*MEASURED))
    assert outcome.code == 2 and "a checkpoint of step 2 is written" in outcome.err
    (pairs / "test" / "1.png").write_bytes(whole)
    assert p2pkit("run", "--resume", stopped, "--accept-changed-data").code == 0
    assert_same_end(alone, stopped)


def test_bad_test_data_ends_all_processes_with_a_checkpoint(
    recipe: Path, pairs: Path, tmp_path: Path, port: int
) -> None:
    spoil_the_middle(pairs / "test" / "1.png")
    settings = words("train.max_steps=6", "train.sample_every=3")
    both = [launch_alone(rank, port, "run", recipe, "--out", tmp_path / "run", *settings) for rank in (0, 1)]
    for running in both:
        _, errors = running.communicate(timeout=120)
        assert running.returncode == 2 and "1.png" in errors and "a checkpoint of step 3 is written" in errors
    assert steps_of_checkpoints(tmp_path / "run") == [2, 3]


@pytest.mark.slow
def test_no_kill_at_the_end_takes_the_only_checkpoint(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("train.max_steps=3", "train.checkpoint_every=3", "validation.every=3", "train.keep_checkpoints=1")
    alone = train(p2pkit, recipe, tmp_path / "alone", *settings)
    finish, operations = Trainer._finish, [0]

    def killed(self: Trainer) -> Any:
        with failing_at(number, Killed()) as seen:
            try:
                return finish(self)
            finally:
                operations[0] = seen[0]

    number = 0
    while number <= operations[0]:
        number += 1
        stopped = tmp_path / f"stopped_{number}"
        with monkeypatch.context() as patch, pytest.raises((Killed, SystemExit)):
            patch.setattr(Trainer, "_finish", killed)
            p2pkit("run", recipe, "--out", stopped, *words(*settings))
            raise SystemExit
        resumed = p2pkit("run", "--resume", stopped)
        assert resumed.code == 0, f"operation {number}: {resumed.err}"
        assert (stopped / "best.safetensors").read_bytes() == (alone / "best.safetensors").read_bytes(), number
        shutil.rmtree(stopped)
    assert number > 10


def test_damaged_checkpoints_do_not_push_out_whole_ones(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "train.checkpoint_every=2")
    for step in (10, 12):
        shutil.copytree(run / "checkpoints" / "step_00000004", run / "checkpoints" / f"step_{step:08}")
        (run / "checkpoints" / f"step_{step:08}" / "progress.json").write_text("{}")
    assert p2pkit("run", "--resume", run, "--set", "train.max_steps=8").code == 0
    kept = sorted(folder.name for folder in (run / "checkpoints").iterdir())
    assert kept == ["damaged_step_00000010", "damaged_step_00000012", "step_00000006", "step_00000008"]


def test_processes_that_see_different_checkpoints_end(recipe: Path, tmp_path: Path, p2pkit: Call, port: int) -> None:
    run = train(p2pkit, recipe, tmp_path / "0" / "run")
    shutil.copytree(run, tmp_path / "1" / "run")
    (tmp_path / "1" / "run" / "checkpoints" / "step_00000004" / "progress.json").write_text("{}")
    both = [launch_alone(rank, port, "run", "--resume", tmp_path / str(rank) / "run") for rank in (0, 1)]
    for running in both:
        _, errors = running.communicate(timeout=120)
        assert running.returncode == 2
        assert "process 0: step 4, process 1: step 2" in errors


def test_what_cannot_be_had_now_is_not_skipped_as_bad() -> None:
    def use(index: int) -> int:
        raise Unavailable("the server is away")

    with pytest.raises(Unavailable):
        SkipBadSamples(3, "skip").first_usable(0, use)


def test_every_line_of_metrics_is_there_once(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().removesuffix("\n"))  # the last line's end is torn off
    assert p2pkit("run", "--resume", run).code == 0
    assert [(line["step"], line["split"]) for line in lines(run)] == [
        (1, "train"), (2, "train"), (3, "train"), (4, "train"), (4, "validation"),
    ]  # fmt: skip
