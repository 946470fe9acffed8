"""``train.max_time`` limits all of a run from its start on, its measurements too."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import p2pkit as library
from p2pkit.evaluation.driver import Driver
from p2pkit.training.trainer import Trainer
from tests.conftest import Call, lines, train, validation

COUNT = 60


@pytest.fixture
def many(pairs: Path, recipe: Path) -> Path:
    """A recipe with many test pairs."""
    first = (pairs / "test" / "0.png").read_bytes()
    for index in range(COUNT):
        (pairs / "test" / f"{index}.png").write_bytes(first)
    return recipe


def test_a_run_whose_time_is_up_makes_a_step_and_measures_an_image(many: Path, tmp_path: Path) -> None:
    limits = {"train.max_time": "5s", "train.max_steps": 100000}
    result = library.train(many, limits, tmp_path / "run", "cpu", began=time.monotonic() - 1000)
    last = lines(tmp_path / "run")[-1]
    assert result.step == last["step"] == 1
    of = validation(tmp_path / "run")
    assert (of["images"], of["images_asked"]) == (1, COUNT)
    assert last["source/mae"] > 0 and last["validation/mae"] > 0


def test_time_is_kept_for_measuring(many: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    finish = Trainer._finish

    def note(self: Trainer) -> Any:
        seen.append((self.limits.seconds, self.state.seconds))
        return finish(self)

    monkeypatch.setattr(Trainer, "_finish", note)
    for asked, kept in ((1.5, 1.5), (1000.0, 2.0)):  # the most is a quarter
        monkeypatch.setattr(Driver, "seconds", lambda self, translate, asked=asked: [0.4 * asked, 0.6 * asked])
        train(p2pkit, many, tmp_path / f"run_{kept}", "train.max_time=8s", "train.max_steps=100000")
        limit, ended = seen[-1]
        assert limit == 8.0 - kept and limit <= ended


def test_the_time_of_earlier_commands_counts(many: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, many, tmp_path / "run", "train.max_time=1h", "train.max_steps=4")
    (checkpoint,) = (run / "checkpoints").glob("step_00000004")
    before = json.loads((checkpoint / "progress.json").read_text())["seconds"]
    assert p2pkit("run", "--resume", run, "--set", "train.max_steps=6").code == 0
    after = json.loads((run / "checkpoints" / "step_00000006" / "progress.json").read_text())["seconds"]
    assert after > before > 0


def test_a_run_without_a_time_limit_measures_all(many: Path, tmp_path: Path, p2pkit: Call) -> None:
    assert validation(train(p2pkit, many, tmp_path / "run"))["images"] == COUNT


def test_a_run_whose_time_was_up_stays_as_it_ended(many: Path, tmp_path: Path) -> None:
    limits = {"train.max_time": "3s", "train.max_steps": 100000}
    ended = library.train(many, limits, tmp_path / "run", "cpu")
    model = ended.model_path.read_bytes()
    resumed = library.resume(tmp_path / "run", device="cpu")
    assert resumed.step == ended.step and resumed.model_path.read_bytes() == model


def test_a_signal_in_the_first_step_writes_a_checkpoint(
    many: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = Driver.seconds

    def interrupted(self: Driver, translate: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return seconds(self, translate)

    with monkeypatch.context() as patch:
        patch.setattr(Driver, "seconds", interrupted)
        outcome = p2pkit("run", many, "--out", tmp_path / "run")
    assert outcome.code == 143 and "interrupted at step 1" in outcome.err and "Traceback" not in outcome.err
    assert p2pkit("run", "--resume", tmp_path / "run").code == 0


def test_numbers_of_a_part_of_the_set_are_said_to_be_and_decide_nothing(many: Path, tmp_path: Path) -> None:
    limits = {"train.max_time": "5s", "train.max_steps": 100000, "validation.every": 1}
    result = library.train(many, limits, tmp_path / "run", "cpu", began=time.monotonic() - 1000)
    assert result.best_step is None and result.metrics["validation/mae"] > 0
    assert f"1 of {COUNT} images, since the time was up" in result.validated_on
