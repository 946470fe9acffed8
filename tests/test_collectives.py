"""Two processes decide alike: what one of them meets ends both, with nothing lost."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import Call, distribution, lines, picture, save, train
from tests.test_bad_pairs import spoil_the_middle
from tests.test_many_processes import WITHOUT_STATISTICS, launch, start_alone

MEETING = """
import json, os, signal, sys, time
from pathlib import Path

from p2pkit.distributed.accelerator import make_accelerator
from p2pkit.distributed.collectives import on_every_process, on_main_process
from p2pkit.distributed.lost import is_loss
from p2pkit.errors import DataError, WriteError
from p2pkit.settings import TrainSettings

rank = int(os.environ["RANK"])
accelerator = make_accelerator(TrainSettings(collective_timeout="3s"), "cpu")
met = []

def meet(function, *arguments):
    try:
        met.append(["", function(accelerator, *arguments)])
    except BaseException as error:
        met.append([type(error).__name__, str(error), getattr(error, "exit_code", None)])

def fail(error):
    raise error

def only_on(number, work):
    return lambda: work() if rank == number else "done"

def long():
    time.sleep(5)
    return "after five seconds"

def signalled():
    signal.signal(signal.SIGALRM, lambda *_: fail(RuntimeError("a reader has been killed")))
    signal.setitimer(signal.ITIMER_REAL, 0.2)

meet(on_main_process, long)
meet(on_every_process, only_on(1, long))
meet(on_main_process, lambda: fail(DataError("a bad file\\nand another")), "listed there")
meet(on_main_process, lambda: fail(DataError("a bad file\\nand another")))
meet(on_main_process, lambda: fail(WriteError("the disk is full\\nof files")))
meet(on_main_process, lambda: fail(OSError("an I/O error")))
meet(on_main_process, lambda: fail(KeyError("x")))
meet(on_main_process, lambda: signal.raise_signal(signal.SIGINT))
meet(on_every_process, only_on(1, lambda: fail(WriteError("full"))))
meet(on_every_process, signalled if rank == 1 else lambda: time.sleep(2))
meet(on_main_process, lambda: "all is well")
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(met))
try:
    on_every_process(accelerator, only_on(1, lambda: os._exit(0)))
except RuntimeError as error:
    Path(sys.argv[1], "lost").write_text(str(is_loss(error)))
os._exit(0)
"""
SPOILT = '''
import p2pkit


@p2pkit.hookimpl
def register_losses(register):
    import torch

    class Spoilt:
        """NaN for a black source."""

        def generator_loss(self, step):
            term = (step.fake - step.target).square().mean()
            return term * torch.nan if bool((step.source < -0.99).flatten(1).all(dim=1).any()) else term

    register("spoilt", Spoilt)
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder with a distribution whose loss is NaN for a black source."""
    folder = distribution(tmp_path / "plugins", "p2pkit-spoilt", "1.0", {"spoilt": "p2pkit_spoilt"})
    (folder / "p2pkit_spoilt.py").write_text(SPOILT)
    return folder


def without_statistics() -> list[str]:
    return [word for setting in WITHOUT_STATISTICS for word in ("--set", setting)]


def test_all_learn_how_the_work_of_one_has_ended(tmp_path: Path, port: int) -> None:
    script = tmp_path / "meeting.py"
    script.write_text(MEETING)
    running = [start_alone(rank, port, script, tmp_path) for rank in (0, 1)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    main, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    host = platform.node()
    elsewhere = [
        ["", "after five seconds"],  # although collectives have a time-out of three
        ["", "after five seconds"],
        ["SharedDataError", "listed there", None],
        ["SharedDataError", "a bad file\nand another", None],
        ["ProcessLost", f"process 0 ({host}) has ended: the disk is full", 2],
        ["ProcessLost", f"process 0 ({host}) has ended: an I/O error", 2],
        ["ProcessLost", f"process 0 ({host}) has ended: 'x'", 1],
        ["ProcessLost", f"process 0 ({host}) has ended: KeyboardInterrupt", 130],
        ["WriteError", "full", None],
        ["RuntimeError", "a reader has been killed", None],
        ["", "all is well"],
    ]
    here = [
        ["", "after five seconds"],
        ["", "done"],
        ["SharedDataError", "a bad file\nand another", None],
        ["SharedDataError", "a bad file\nand another", None],
        ["WriteError", "the disk is full\nof files", None],
        ["OSError", "an I/O error", None],
        ["KeyError", "'x'", None],
        ["KeyboardInterrupt", "", None],
        ["ProcessLost", f"process 1 ({host}) has ended: full", 2],
        ["ProcessLost", f"process 1 ({host}) has ended: a reader has been killed", 1],
        ["", "all is well"],
    ]
    assert main == here
    assert other == elsewhere
    assert (tmp_path / "lost").read_text() == "True"


def test_batch_norm_over_all_processes(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    settings = (
        "loader.batch_size=4",
        "generator.dropout=0.0",
        "optimizer.name=sgd",
        "optimizer.lr=0.01",
        "train.max_steps=6",
    )
    one = train(p2pkit, recipe, tmp_path / "one", *settings)
    words = [word for setting in settings for word in ("--set", setting)]
    running = launch("run", recipe, "--out", tmp_path / "two", *words, "--set", "train.sync_norm=true")
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    weights = [load_file(run / "model.safetensors") for run in (one, tmp_path / "two")]
    assert any("running_var" in name for name in weights[0])
    for name, value in weights[0].items():
        assert float((value - weights[1][name]).abs().max()) < 1e-5, name
    for alone, shared in zip(lines(one), lines(tmp_path / "two"), strict=True):
        assert shared.keys() == alone.keys() and shared["split"] == alone["split"]
        for name, value in alone.items():
            is_number = isinstance(value, float)
            assert shared[name] == (pytest.approx(value, rel=1e-4) if is_number else value), name


def test_nan_on_one_process_ends_both_and_both_leave_their_share(
    recipe: Path, pairs: Path, plugins: Path, tmp_path: Path, p2pkit: Call
) -> None:
    black = picture(24, 48, 1) * 0
    save(pairs / "train" / "3.png", black)
    losses = 'losses=[{name="gan"}, {name="spoilt"}]'
    settings = ("--set", losses, "--set", "train.checkpoint_every=1", *without_statistics())
    out = tmp_path / "run"
    running = launch("--plugins-dir", plugins, "run", recipe, "--out", out, *settings)
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "spoilt = nan" in errors and "this process's share is" in errors
    (left,) = (out / "not_finite").iterdir()
    assert {file.name for file in left.iterdir()} == {
        "networks.safetensors", "process_0.safetensors", "process_1.safetensors",
    }  # fmt: skip
    made_again = p2pkit("--plugins-dir", plugins, "replay", left, "--device", "cpu")
    assert made_again.code == 0, made_again.err
    assert made_again.out.count("generator/spoilt = nan  <- not finite") == 1


def test_bad_data_that_any_process_skips_is_reported_by_one(recipe: Path, pairs: Path, tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        spoil_the_middle(pairs / "train" / name)
    settings = ("--set", "loader.bad_data=skip", "--set", "train.max_steps=6", *without_statistics())
    running = launch("run", recipe, "--out", tmp_path / "run", *settings)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    listed = [json.loads(line)["message"] for line in (tmp_path / "run" / "bad_data.jsonl").read_text().splitlines()]
    assert sorted(Path(message.split(":")[0]).name for message in listed) == ["1.png", "2.png"]
    assert all(errors.count(message) == 1 for message in listed)


def test_bad_data_on_one_process_ends_both_with_a_checkpoint(
    recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call
) -> None:
    out, damaged = tmp_path / "run", pairs / "train" / "3.png"
    whole = damaged.read_bytes()
    spoil_the_middle(damaged)
    settings = ("--set", "train.checkpoint_every=100", *without_statistics())
    running = launch("run", recipe, "--out", out, *settings)
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "3.png" in errors and "a checkpoint of step" in errors
    (checkpoint,) = (out / "checkpoints").iterdir()
    assert json.loads((checkpoint / "progress.json").read_text())["step"] > 0
    damaged.write_bytes(whole)
    resumed = p2pkit("run", "--resume", out, "--device", "cpu", "--accept-changed-data")
    assert resumed.code == 0, resumed.err
