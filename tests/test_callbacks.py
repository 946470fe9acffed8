"""Callbacks, and schedules that go by validation: what they are told, stopping on all processes, exact resuming."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import p2pkit as library
from p2pkit.errors import CallbackError, P2PKitError, RecipeError
from p2pkit.run_contracts import EVENTS, TrainingRun
from tests.conftest import Call, distribution, lines, steps_of_checkpoints, train
from tests.test_many_processes import launch

CPU = {"device": "cpu"}
WATCH = '''
"""A stranger's callbacks and a metric."""

import os
import signal

import p2pkit


class Bell:
    """Rings at a step: ends the run, or fails, on one process."""

    def __init__(self, step: int = 3, rank: int = 0, fails: bool = False) -> None:
        self.step, self.rank, self.fails = step, rank, fails

    def on_step_end(self, run: object) -> None:
        if run.step == self.step and int(os.environ.get("RANK", 0)) == self.rank:
            if self.fails:
                raise RuntimeError("the bell is broken")
            run.stop("the bell has rung")


class PowerCut:
    """Ends the process as a power cut does, at the step that a variable names."""

    def on_step_end(self, run: object) -> None:
        if str(run.step) == os.environ.get("POWER_CUT_AT"):
            os.kill(os.getpid(), signal.SIGKILL)


class Brightness:
    """How bright outputs are."""

    higher_is_better = True

    def update(self, output: object, target: object) -> None:
        self.brightness = float(output.mean())

    def compute(self) -> float:
        return self.brightness

    def reset(self) -> None:
        self.brightness = 0.0


@p2pkit.hookimpl
def register_callbacks(register: object) -> None:
    register("bell", Bell)
    register("power_cut", PowerCut)


@p2pkit.hookimpl
def register_metrics(register: object) -> None:
    register("brightness", Brightness)
'''


@pytest.fixture
def watch(tmp_path: Path) -> Path:
    """A folder for --plugins-dir with these."""
    folder = distribution(tmp_path / "plugins", "watch", "1.5", {"watch": "watch"})
    (folder / "watch.py").write_text(WATCH)
    return folder


class Diary:
    """Writes down what it is called with."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at, self.seen, self.last = stop_at, list[tuple[str, int]](), dict[str, Any]()

    def __getattr__(self, event: str) -> Any:
        if event not in EVENTS:
            raise AttributeError(event)
        return lambda run: self.note(event, run)

    def __dir__(self) -> list[str]:
        return list(EVENTS)

    def note(self, event: str, run: TrainingRun) -> None:
        self.seen.append((event, run.step))
        self.last[event] = run
        if event == "on_step_end" and run.step == self.stop_at:
            run.stop("enough")


def test_a_callback_is_told_of_a_run_and_sees_it(recipe: Path, tmp_path: Path) -> None:
    diary = Diary()
    result = library.train(recipe, {"validation.every": 2}, tmp_path / "run", callbacks=[diary], **CPU)
    steps = [("on_step_end", 1), ("on_step_end", 2), ("on_validation_end", 2), ("on_checkpoint", 2)]
    steps += [("on_step_end", 3), ("on_step_end", 4), ("on_checkpoint", 4), ("on_validation_end", 4)]
    assert diary.seen == [("on_train_start", 0), *steps, ("on_train_end", 4)]
    run = diary.last["on_validation_end"]
    assert (run.step, run.epoch, run.progress, run.is_main_process) == (4, pytest.approx(4 / 3), 1.0, True)
    assert run.metrics == result.metrics and run.run_dir == result.run_dir and result.stopped == ""
    assert run.losses == {name: value for name, value in lines(result.run_dir)[4].items() if name in run.losses}
    assert {"generator/l1", "discriminator/gan"} < run.losses.keys()
    assert run.score() == run.score("mae") == -result.metrics["validation/mae"]
    with pytest.raises(RecipeError, match=r"no metric is called 'mea'; did you mean 'mae'"):
        run.score("mea")
    assert diary.last["on_step_end"].metrics == {}


def test_a_stopped_run_ends_as_one_at_its_limit_and_stays_so(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    limit = library.train(recipe, {"train.max_steps": 3}, tmp_path / "limit", **CPU)
    stopped = library.train(recipe, {}, tmp_path / "stopped", callbacks=[Diary(stop_at=3)], **CPU)
    assert (stopped.step, stopped.stopped, stopped.metrics) == (3, "enough", limit.metrics)
    assert lines(stopped.run_dir) == lines(limit.run_dir) and (stopped.run_dir / "samples/step_00000003.png").exists()
    resumed = p2pkit("run", "--resume", stopped.run_dir, "--device", "cpu")
    assert resumed.code == 0 and "NOTICE: a callback has stopped this run: enough." in resumed.err
    assert "stopped at step 3: enough" in resumed.out
    assert steps_of_checkpoints(stopped.run_dir)[-1] == 3 and lines(stopped.run_dir) == lines(limit.run_dir)


def test_a_callback_of_one_process_stops_two_at_one_step(
    recipe: Path, watch: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = tmp_path / "run"
    callbacks = 'callbacks=[{name = "bell", step = 3, rank = 1}]'
    options = ("--set", callbacks, "--set", "train.max_steps=50", "--set", "train.checkpoint_every=3")
    running = launch("--plugins-dir", watch, "run", recipe, "--out", run, *options)
    out, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert out.count("stopped at step 3: the bell has rung") == 1
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 3] and steps_of_checkpoints(run) == [3]
    record = json.loads((run / "checkpoints" / "step_00000003" / "progress.json").read_text())
    assert record["stopped"] == "the bell has rung"
    resumed = p2pkit("--plugins-dir", watch, "run", "--resume", run, "--device", "cpu")
    assert resumed.code == 0 and "stopped at step 3" in resumed.out and lines(run)[-1]["step"] == 3


@pytest.mark.parametrize("step", [3, 4])
def test_a_callback_that_fails_is_named_and_a_checkpoint_written(
    step: int, recipe: Path, watch: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run, callbacks = tmp_path / "run", f'callbacks=[{{name = "bell", step = {step}, fails = true}}]'
    ended = p2pkit("--plugins-dir", watch, "run", recipe, "--out", run, "--set", callbacks, "--device", "cpu")
    assert ended.code == 2 and "Traceback" not in ended.err
    assert "callback 'bell' of watch 1.5 fails in on_step_end: RuntimeError: the bell is broken" in ended.err
    assert steps_of_checkpoints(run)[-1] == step and (run / "model.safetensors").exists()
    assert (f"run --device cpu --resume {run}" if step == 3 else "the run has ended, and its model is") in ended.err
    resumed = p2pkit("--plugins-dir", watch, "run", "--resume", run, "--device", "cpu")
    assert resumed.code == 0, resumed.err
    alone = train(p2pkit, recipe, tmp_path / "alone")
    assert lines(run) == lines(alone)


def test_a_failure_before_the_first_step_leaves_no_checkpoint(recipe: Path, tmp_path: Path) -> None:
    class Early:
        def on_train_start(self, run: TrainingRun) -> None:
            raise ValueError("too early")

    with pytest.raises(CallbackError, match=r"^the callback Early fails in on_train_start: ValueError: too early$"):
        library.train(recipe, {}, tmp_path / "run", callbacks=[Early()], **CPU)
    assert not (tmp_path / "run" / "checkpoints").exists()


# a learning rate so high that the metrics get worse again
PLATEAU = """
[optimizer]
lr = 0.02

[schedule]
name = "plateau"
factor = 0.5
patience = 0
warmup = 2

[validation]
every = 2

[[metrics]]
name = "mae"

[[metrics]]
name = "brightness"

[[callbacks]]
name = "power_cut"

[[callbacks]]
name = "early_stopping"
patience = 4
"""


def test_plateau_and_early_stopping_resume_exactly_after_sigkill(recipe: Path, watch: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace("max_steps = 4", "max_steps = 100") + PLATEAU)

    def run(out: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "p2pkit", "--plugins-dir", watch, "run", *arguments, "--device", "cpu"]
        environment = {**os.environ, **variables}
        return subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment, check=False)

    alone, cut = tmp_path / "alone", tmp_path / "cut"
    ended = run(alone, recipe, "--out", alone)
    assert ended.returncode == 0, ended.stderr
    rates = [line["generator/lr"] for line in lines(alone) if line["split"] == "train"]
    assert rates[:2] == [0.01, 0.02] and min(rates) < 0.01
    (step,) = map(int, re.findall(r"stopped at step (\d+): the validation metric has not become better", ended.stdout))
    measured = {line["step"]: line["validation/mae"] for line in lines(alone) if line["split"] == "validation"}
    best = min(measured, key=lambda at: measured[at])
    assert step == best + 8 < 100
    killed = run(cut, recipe, "--out", cut, POWER_CUT_AT=str(step - 1))
    assert killed.returncode == -signal.SIGKILL
    resumed = run(cut, "--resume", cut)
    assert resumed.returncode == 0 and f"resuming from step {step - 2}" in resumed.stderr, resumed.stderr
    checkpoint = Path("checkpoints") / f"step_{step:08}"
    for name in ("model.safetensors", "best.safetensors", "metrics.jsonl", *checkpoint_files(alone / checkpoint)):
        mine, other = ((folder / name).read_bytes() for folder in (cut, alone))
        if name.endswith("progress.json"):
            mine, other = map(without_time, (mine, other))
        assert mine == other, name


def checkpoint_files(folder: Path) -> list[str]:
    return [f"checkpoints/{folder.name}/{file.name}" for file in sorted(folder.iterdir())]


def without_time(record: bytes) -> bytes:
    read = json.loads(record)
    assert read["states"]["schedule"] and read["states"]["callbacks.early_stopping"] and read["stopped"]
    del read["run"]["id"]
    return json.dumps(
        {key: value for key, value in read.items() if key not in ("seconds", "expected", "sha256_of_the_rest")}
    ).encode()


def test_patience_in_the_recipe_is_early_stopping_in_short(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    # a rate by which no weight moves, so that no metric improves
    settings = ("train.max_steps=40", "validation.every=2", "optimizer.lr=1e-30")
    short = train(p2pkit, recipe, tmp_path / "short", *settings, "validation.patience=2")
    long = train(p2pkit, recipe, tmp_path / "long", *settings, 'callbacks=[{name = "early_stopping", patience = 2}]')
    assert lines(short) == lines(long) and lines(short)[-1]["step"] < 40
    assert "patience = 2" in (short / "recipe.toml").read_text().partition("[validation]")[2]


def test_the_monitored_metric_decides_which_checkpoint_is_the_best(
    recipe: Path, watch: Path, tmp_path: Path, p2pkit: Call
) -> None:
    settings = (
        'metrics=[{name = "mae"}, {name = "brightness"}]', "validation.monitor=brightness", "validation.every=1",
        "optimizer.lr=0.02", "train.max_steps=6",
    )  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    ended = p2pkit("--plugins-dir", watch, "run", recipe, "--out", tmp_path / "run", *words, "--device", "cpu")
    assert ended.code == 0, ended.err
    measured = {each["step"]: each for each in lines(tmp_path / "run") if each["split"] == "validation"}
    brightest = max(measured, key=lambda step: measured[step]["validation/brightness"])
    assert f"(step {brightest})" in ended.out
    assert brightest != min(measured, key=lambda step: measured[step]["validation/mae"])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            ["validation.patience=2"],
            "validation.patience goes by a validation metric, and none is taken while training",
        ),
        (["schedule.name=plateau"], "schedule 'plateau' of p2pkit 0.1.0 goes by a validation metric"),
        (['callbacks=[{name = "early_stopping"}]'], "'early_stopping' of p2pkit 0.1.0 goes by a validation metric"),
        (["validation.every=2", "validation.patience=2", "metrics=[]"], "name a metric in [[metrics]]"),
        (["validation.monitor=mea"], "validation.monitor: no metric is called 'mea'; did you mean 'mae'?"),
        (["validation.every=2", "schedule.name=plateau", "schedule.monitor=x"], "the metrics give: mae"),
        (["schedule.name=step"], "needs either every or milestones"),
        (["callbacks=[1]"], "callbacks.0: found 1, expected a table with a name"),
        (['callbacks=[{name = "early_stoping"}]'], "did you mean 'early_stopping'?"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_work_is_refused_by_check(settings: list[str], complaint: str, recipe: Path, p2pkit: Call) -> None:
    checked = p2pkit("check", recipe, *(word for setting in settings for word in ("--set", setting)))
    assert checked.code == 2 and complaint in checked.err and "Traceback" not in checked.err


class Misspelt:
    def on_step_ended(self, run: TrainingRun) -> None:
        pass


@pytest.mark.parametrize(
    ("callback", "complaint"),
    [
        (Misspelt(), "Misspelt has on_step_ended, which nothing calls; did you mean 'on_step_end'?"),
        (Diary, "Diary is a class; give an object of it"),
        (print, "is a builtin_function_or_method, expected an object with methods on_train_start"),
    ],
    ids=["misspelt", "class", "function"],
)
def test_what_is_not_a_callback_is_refused_before_the_run(
    callback: Any, complaint: str, recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(P2PKitError, match=re.escape(complaint)):
        library.train(recipe, {}, tmp_path / "run", callbacks=[callback], **CPU)
    assert not (tmp_path / "run").exists()


def test_a_callback_without_its_state_says_so(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Counting:
        count = 0

        def on_step_end(self, run: TrainingRun) -> None:
            self.count += 1

        def state_dict(self) -> dict[str, int]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.count = state["count"]

    library.train(recipe, {}, tmp_path / "run", callbacks=[Counting()], **CPU)
    again = Counting()
    library.resume(tmp_path / "run", callbacks=[again], **CPU)
    assert again.count == 4
    library.resume(tmp_path / "run", **CPU)
    assert "callbacks.Counting has a state in the checkpoint, and none in this run" in capsys.readouterr().err
