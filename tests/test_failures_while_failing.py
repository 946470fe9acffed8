"""A second failure while a run ends by another: both are told, the exit code is right, and the folder resumes."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from p2pkit.cli.main import main
from p2pkit.contracts import Batch
from p2pkit.data.readers import _Watch, batches_of
from p2pkit.errors import DataError
from p2pkit.inference.model_file import read_header
from p2pkit.training.ending import Ending
from p2pkit.training.outputs import Outputs
from p2pkit.training.trainer import Trainer
from tests.conftest import Call, steps_of_checkpoints, train
from tests.failing import WRITING, failing_writes, snapshot
from tests.hostile.attacks import ended_after
from tests.test_bad_pairs import spoil_the_middle
from tests.test_callbacks import watch

__all__ = ["watch"]
NEVER = 10**9
NAMES = ("model.safetensors", "metrics.jsonl", "samples/step_00000004.png")


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def failing_save(patch: pytest.MonkeyPatch, number: int, code: int, step: int = 3) -> list[str]:
    """Let an operation of the checkpoint of a step fail; the operations that are made."""
    save, operations = Outputs.save, list[str]()

    def failing(self: Outputs, state: Any, metrics: Any) -> bool:
        if state.step != step:
            return save(self, state, metrics)
        with failing_writes(number, code) as made:
            try:
                return save(self, state, metrics)
            finally:
                operations[:] = made

    patch.setattr(Outputs, "save", failing)
    return operations


def ended_by_bad_data(recipe: Path, run: Path, number: int, code: int, p2pkit: Call) -> tuple[Any, list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        operations = failing_save(patch, number, code)
        return p2pkit("run", recipe, "--out", run, *words("train.checkpoint_every=2")), operations


def numbers_of(count: int, some: int) -> list[int]:
    return [1 + count * index // some for index in range(some)]


@pytest.mark.parametrize("share", [6, pytest.param(None, marks=pytest.mark.slow)])
def test_bad_data_and_each_write_of_the_checkpoint_that_follows(
    share: int | None, recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call
) -> None:
    bad = pairs / "train" / name_read_last(recipe, tmp_path, p2pkit)
    good, run = bad.read_bytes(), tmp_path / "run"
    whole = train(p2pkit, recipe, tmp_path / "whole")
    spoil_the_middle(bad)
    outcome, operations = ended_by_bad_data(recipe, run, NEVER, 0, p2pkit)
    assert outcome.code == 2 and len(operations) > 20, outcome.err
    places = numbers_of(len(operations), share) if share else range(1, len(operations) + 1)
    for number in places:
        code = WRITING[number % len(WRITING)]
        shutil.rmtree(run)
        spoil_the_middle(bad)
        outcome, _ = ended_by_bad_data(recipe, run, number, code, p2pkit)
        made = f"{number}: {operations[number - 1]}: {outcome.err}"
        assert outcome.code == 2 and "Traceback" not in outcome.err, made
        assert bad.name in outcome.err, made
        bad.write_bytes(good)
        if "a checkpoint of step 3 is written" not in outcome.err:
            assert os.strerror(code) in outcome.err and "The checkpoint of step 2 is good" in outcome.err, made
        resumed = p2pkit("run", "--resume", run, "--accept-changed-data")
        assert resumed.code == 0 and not list(run.rglob("*.part")) and not list(run.rglob("damaged*")), made
        assert {name: (run / name).read_bytes() for name in NAMES} == {
            name: (whole / name).read_bytes() for name in NAMES
        }, made


def name_read_last(recipe: Path, folder: Path, p2pkit: Call) -> str:
    """The name of a file that the fourth step is the first to read."""
    read: list[str] = []
    step = Trainer._train_step

    def noting(self: Trainer, batch: Batch) -> None:
        read.append(",".join(map(str, batch.keys)))
        step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", noting)
        train(p2pkit, recipe, folder / "noted", "loader.batch_size=1", "train.max_steps=4")
    name = Path(read[3].split(":")[0]).name
    recipe.write_text(recipe.read_text().replace("batch_size = 2", "batch_size = 1"))
    return name if name.endswith(".png") else f"{name}.png"


def _at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Act at the end of a step."""
    write = Trainer._write_what_is_due

    def acting(self: Trainer) -> None:
        write(self)
        if self.state.step == step:
            act()

    patch.setattr(Trainer, "_write_what_is_due", acting)


def to_workers(number: int) -> None:
    for child in psutil.Process().children():
        child.send_signal(number)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("full", [False, True])
def test_readers_that_are_killed(
    workers: int, full: bool, recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    _at_step(monkeypatch, 3, partial(to_workers, signal.SIGKILL))
    settings = words(f"loader.workers={workers}", "train.max_steps=200", "train.checkpoint_every=2")
    if full:
        save = Outputs.save

        def refused(self: Outputs, state: Any, metrics: Any) -> bool:
            if state.step > 3 and state.step % 2:
                with failing_writes(3, errno.ENOSPC):
                    return save(self, state, metrics)
            return save(self, state, metrics)

        monkeypatch.setattr(Outputs, "save", refused)
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *settings)
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome.err
    assert "has been killed" in outcome.err and "Lower loader.workers" in outcome.err
    last = steps_of_checkpoints(tmp_path / "run")[-1]
    assert f"checkpoint of step {last} is" in outcome.err
    assert not psutil.Process().children()
    monkeypatch.undo()
    settings = words(f"train.max_steps={last + 1}", "loader.workers=0")
    assert p2pkit("run", "--resume", tmp_path / "run", *settings).code == 0


def test_a_reader_that_is_killed_in_the_middle_of_a_checkpoint_breaks_nothing(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2pkit.training import checkpoint

    write = checkpoint._write_record

    def killing(*arguments: Any) -> None:
        to_workers(signal.SIGKILL)
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                child.wait(5)
        write(*arguments)

    monkeypatch.setattr(checkpoint, "_write_record", killing)
    settings = words("loader.workers=2", "train.max_steps=200", "train.checkpoint_every=2", "train.keep_checkpoints=9")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *settings)
    assert outcome.code == 2 and "Traceback" not in outcome.err and "has been killed" in outcome.err
    assert steps_of_checkpoints(tmp_path / "run")[0] == 2


def test_readers_that_are_stopped_end_the_run_in_time(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    _at_step(monkeypatch, 3, partial(to_workers, signal.SIGSTOP))
    settings = words("loader.workers=2", "train.max_steps=200", "loader.timeout=1s")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *settings)
    assert outcome.code == 2 and "given none for 1s" in outcome.err and "raise loader.timeout" in outcome.err
    assert "a checkpoint of step" in outcome.err and not psutil.Process().children()


def test_readers_that_are_stopped_do_not_keep_a_signal_waiting(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, watched = _Watch.begin, list[int]()

    def stopping(self: _Watch) -> None:
        begin(self)
        watched.append(1)
        if len(watched) == 6:
            to_workers(signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(_Watch, "begin", stopping)
    settings = words("loader.workers=2", "train.max_steps=200", "loader.timeout=10m")
    with ended_after(60):
        outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *settings)
    assert outcome.code == 143 and "interrupted at step" in outcome.err
    assert not psutil.wait_procs(psutil.Process().children(), timeout=10)[1]


@pytest.mark.parametrize("network", ["generator", "discriminator"])
@pytest.mark.parametrize("buffers", [False, True])
def test_networks_that_have_become_nan_are_not_written(
    network: str, buffers: bool, recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, run = Trainer._train_step, tmp_path / "run"

    def spoiling(self: Trainer, batch: Batch) -> None:
        step(self, batch)
        if self.state.step == 4:
            trained = self.trained.networks[network]
            tensors = [each for each in trained.buffers() if each.is_floating_point()]
            with torch.no_grad():
                (tensors if buffers else list(trained.parameters()))[-1].fill_(math.nan if buffers else math.inf)

    monkeypatch.setattr(Trainer, "_train_step", spoiling)
    settings = words("validation.every=2", "train.max_steps=6", "train.ema_decay=0.5", "discriminator.norm=batch")
    outcome = p2pkit("run", recipe, "--out", run, *settings)
    assert outcome.code == 2 and "after step 4 " in outcome.err and f"of the {network} is NaN or" in outcome.err
    assert "Lower optimizer.lr" in outcome.err and "The checkpoint of step 2 is good" in outcome.err
    assert steps_of_checkpoints(run) == [2] and read_header(run / "model.safetensors").step == 2
    assert read_header(run / "best.safetensors").step == 2
    monkeypatch.undo()
    assert p2pkit("run", "--resume", run).code == 0


def test_what_a_plugin_raises_in_a_reader_is_no_killed_reader(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2pkit.data.augmentation import Augmentation

    def failing(self: Augmentation, *arguments: Any) -> Any:
        raise RuntimeError("the augmentation is broken")

    monkeypatch.setattr(Augmentation, "train", failing)
    monkeypatch.setattr("p2pkit.runs.try_training", lambda *_: None)
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *words("loader.workers=1"))
    assert "the augmentation is broken" in outcome.err and "has been killed" not in outcome.err


@pytest.fixture
def handler_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch's handler of SIGCHLD, as a program has it that used loaders of its own before."""
    before = signal.getsignal(signal.SIGCHLD)
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    list(DataLoader([0.0], num_workers=1))
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("handler_of_pytorch")
@pytest.mark.parametrize("killed", [True, False])
def test_readers_that_were_ended_are_of_no_matter_to_what_ends_later(killed: bool) -> None:
    """While their error is told, PyTorch still lists them, and its handler hears of every process that ends."""
    loader = DataLoader([0.0, 0.0 if killed else "a"] * 20, batch_size=2, num_workers=2, timeout=1)
    with pytest.raises(DataError if killed else TypeError) as raised:
        for _ in batches_of(loader, "1m"):
            to_workers(signal.SIGKILL)
    assert callable(signal.getsignal(signal.SIGCHLD))
    while any(child.status() != psutil.STATUS_ZOMBIE for child in psutil.Process().children()):
        time.sleep(0.01)
    subprocess.run(["true"], check=True)
    assert raised.tb is not None


def test_a_callback_that_fails_and_a_full_disk(
    recipe: Path, watch: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_save(monkeypatch, 4, errno.ENOSPC)
    callbacks = words('callbacks=[{name = "bell", step = 3, fails = true}]')
    outcome = p2pkit("--plugins-dir", watch, "run", recipe, "--out", tmp_path / "run", *callbacks)
    assert outcome.code == 2 and "the bell is broken" in outcome.err and "No space left" in outcome.err
    assert "The checkpoint of step 2 is good" in outcome.err


def test_a_loss_that_is_not_finite_and_a_lost_share(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Ending.before_it_spreads

    def lost(self: Ending, *arguments: Any) -> Any:
        with failing_writes(1, errno.ESTALE):
            return keep(self, *arguments)

    monkeypatch.setattr(Ending, "before_it_spreads", lost)
    exploding = ("optimizer.name=sgd", "optimizer.lr=1e3", "generator.norm=none", "discriminator.norm=none")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *words(*exploding, "train.max_steps=400"))
    assert outcome.code == 2 and "Lower optimizer.lr" in outcome.err and os.strerror(errno.ESTALE) in outcome.err
    assert "The checkpoint of step" in outcome.err or "No checkpoint had been written" in outcome.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_and_a_full_disk(
    number: signal.Signals, recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_save(monkeypatch, 3, errno.ENOSPC)
    _at_step(monkeypatch, 3, partial(os.kill, os.getpid(), number))
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run")
    assert outcome.code == 2 and "interrupted at step 3" in outcome.err and "No space left" in outcome.err
    assert "The checkpoint of step 2 is good" in outcome.err
    monkeypatch.undo()
    assert p2pkit("run", "--resume", tmp_path / "run").code == 0


def test_a_second_signal_while_a_failed_run_is_saved_leaves_with_the_failure_told(
    recipe: Path, watch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Left(BaseException):
        pass

    def leave(code: int) -> None:
        raise Left(code)

    save = Outputs.save

    def interrupted(self: Outputs, state: Any, metrics: Any) -> bool:
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return save(self, state, metrics)

    monkeypatch.setattr(Outputs, "save", interrupted)
    monkeypatch.setattr("p2pkit.utils.signals.os._exit", leave)
    arguments = [
        "run",
        recipe,
        "--out",
        tmp_path / "run",
        *words('callbacks=[{name = "bell", step = 3, fails = true}]'),
    ]

    with pytest.raises(Left, match="143"):
        main(["--plugins-dir", str(watch), *map(str, arguments)])
    assert "the bell is broken" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["grid", "metrics", "validation"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_what_is_written_on_the_way_fails_and_says_from_where_to_resume(
    what: str, code: int, recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = {"grid": "_write_sample", "metrics": "record", "validation": "write_validation"}[what]
    write, run = getattr(Outputs, method), tmp_path / "run"
    calls = [0]

    def failing(self: Outputs, *arguments: Any) -> None:
        calls[0] += 1
        if calls[0] < {"grid": 2, "metrics": 3, "validation": 1}[what]:
            write(self, *arguments)
            return
        with failing_writes(1, code, "replace" if what == "grid" else ""):
            write(self, *arguments)

    monkeypatch.setattr(Outputs, method, failing)
    outcome = p2pkit("run", recipe, "--out", run)
    assert outcome.code == 2 and "Traceback" not in outcome.err and os.strerror(code) in outcome.err
    assert "is good; to resume from there:" in outcome.err and f"run --resume {run}" in outcome.err
    monkeypatch.undo()
    assert p2pkit("run", "--resume", run).code == 0
    whole = train(p2pkit, recipe, tmp_path / "whole")
    assert {name: (run / name).read_bytes() for name in NAMES} == {name: (whole / name).read_bytes() for name in NAMES}
    assert not [name for name in snapshot(run) if ".part" in name or "damaged" in name]
