"""Training through the command line: what a run leaves behind, that it repeats bit for bit, and that it resumes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import p2pkit as library
from p2pkit.evaluation.driver import Driver, Measured
from p2pkit.training.sample_grids import GAP, LINE, TOP
from tests.conftest import Call, lines, steps_of_checkpoints, train


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_what_a_run_leaves_behind(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "validation.baseline=class_mean_colour")
    assert steps_of_checkpoints(run) == [2, 4]
    assert {file.name for file in (run / "checkpoints" / "step_00000004").iterdir()} == {
        "networks.safetensors", "optimizers.safetensors", "progress.json",
    }  # fmt: skip
    assert [file.name for file in sorted((run / "samples").iterdir())] == ["step_00000002.png", "step_00000004.png"]
    with Image.open(run / "samples" / "step_00000004.png") as grid:
        assert grid.size == (GAP + 3 * (128 + GAP), TOP + 2 * (128 + LINE + GAP))  # two test pairs, enlarged
    assert (run / "recipe.source.toml").read_text() == recipe.read_text()
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"]["pairs"] == 6 and environment["data"]["test_pairs"] == 2
    assert "builtin (p2pkit" in environment["plugins"][0]
    *trained, measured = lines(run)
    assert [line["step"] for line in trained] == [1, 2, 3, 4]
    assert {"generator/gan", "generator/l1", "discriminator/gan", "generator/lr"} <= trained[0].keys()
    assert {"validation/mae", "class_mean_colour/mae"} <= measured.keys()
    assert library.load_model(run / "model.safetensors").header.metrics["validation/mae"] == measured["validation/mae"]


def test_whoever_may_read_the_folder_may_read_the_model(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    modes = {file.stat().st_mode for file in run.rglob("*") if file.is_file()}
    assert modes == {recipe.stat().st_mode}


def test_no_pickle_is_left_behind(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    endings = {file.suffix for file in run.rglob("*") if file.is_file()}
    assert endings == {".toml", ".json", ".jsonl", ".png", ".safetensors", ".html"}


def test_the_same_seed_gives_the_same_weights_with_and_without_workers(
    p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    alone = weights(train(p2pkit, recipe, tmp_path / "alone"))
    again = weights(train(p2pkit, recipe, tmp_path / "again"))
    workers = weights(train(p2pkit, recipe, tmp_path / "workers", "loader.workers=2"))
    cached = weights(train(p2pkit, recipe, tmp_path / "cached", "loader.cache=memory"))
    other = weights(train(p2pkit, recipe, tmp_path / "other", "run.seed=1"))
    assert same(alone, again) and same(alone, workers) and same(alone, cached)
    assert not same(alone, other)


def test_the_frozen_recipe_reproduces_the_run(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe.write_text(recipe.read_text().replace(str(tmp_path / "pairs"), "pairs"))
    first = train(p2pkit, recipe, tmp_path / "first", "generator.width=6")
    monkeypatch.chdir(Path(__file__).parent)
    second = train(p2pkit, first / "recipe.toml", tmp_path / "second")
    assert same(weights(first), weights(second))
    assert lines(first) == lines(second)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "lion"])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    p2pkit: Call, recipe: Path, tmp_path: Path, optimizer: str
) -> None:
    settings = (f"optimizer.name={optimizer}", "train.max_steps=7", "train.log_every=3", "schedule.name=linear_decay")
    whole = train(p2pkit, recipe, tmp_path / "whole", *settings)
    cut = train(p2pkit, recipe, tmp_path / "cut", *settings)
    for step in steps_of_checkpoints(cut)[1:]:
        # as a kill at step 6 would leave it: the next checkpoint never came, but a later line did
        for file in (cut / "checkpoints" / f"step_{step:08}").iterdir():
            file.unlink()
        (cut / "checkpoints" / f"step_{step:08}").rmdir()
    assert steps_of_checkpoints(cut) == [6]
    with (cut / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 7, "gener')
    outcome = p2pkit("run", "--resume", cut)
    assert outcome.code == 0, outcome.err
    assert "resuming from step 6" in outcome.err
    assert same(weights(whole), weights(cut))
    assert lines(whole) == lines(cut)
    final = [run / "samples" / "step_00000007.png" for run in (whole, cut)]
    assert final[0].read_bytes() == final[1].read_bytes()


def test_a_run_with_standard_error_closed_trains_to_the_end(recipe: Path, tmp_path: Path) -> None:
    words = ["-m", "p2pkit", "run", str(recipe), "--out", str(tmp_path / "run"), "--set", "train.max_steps=2"]
    ended = subprocess.run(f"{shlex.join([sys.executable, *words])} 2>&-", shell=True, check=False)
    assert ended.returncode == 0 and (tmp_path / "run/model.safetensors").exists()


def test_interrupting_writes_a_checkpoint_and_the_command_it_prints_resumes(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "a run"
    for number in (signal.SIGINT, signal.SIGTERM):
        command = ["run", "--resume", out] if out.exists() else ["run", recipe, "--out", out]
        limits = [] if out.exists() else ["--set", "train.max_steps=100000", "--set", "loader.workers=1"]
        running = subprocess.Popen(
            [sys.executable, "-m", "p2pkit", *map(str, command), *limits],
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        written = len(lines(out)) if (out / "metrics.jsonl").exists() else 0
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").exists() or len(lines(out)) < written + 3:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(running.pid, number)
        errors = running.communicate(timeout=60)[1]
        assert running.returncode == 128 + number, errors
        assert f"p2pkit run --resume '{out}'" in errors
        assert "Traceback" not in errors
    steps = [line["step"] for line in lines(out)]
    assert steps == list(range(1, steps[-1] + 1))
    assert steps_of_checkpoints(out)[-1] == steps[-1]


def test_an_interruption_while_measuring_says_how_to_resume(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    measure = Driver.measure

    def interrupted(self: Driver, *arguments: Any) -> Measured:
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, *arguments)

    monkeypatch.setattr(Driver, "measure", interrupted)
    outcome = p2pkit("run", recipe, "--out", run)
    assert outcome.code == 143
    assert f"p2pkit run --resume {run}" in outcome.err
    monkeypatch.undo()
    assert p2pkit("run", "--resume", run).code == 0


def test_epochs_steps_and_time_end_a_run_whichever_comes_first(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    by_epochs = train(p2pkit, recipe, tmp_path / "epochs", "train.epochs=1")
    assert steps_of_checkpoints(by_epochs)[-1] == 3
    started = time.monotonic()
    outcome = p2pkit(
        "run", recipe, "--out", tmp_path / "time", "--max-time", "2s", "--set", "train.max_steps=1000000",
        "--set", "schedule.name=linear_decay",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert time.monotonic() - started < 60
    rates = [line["generator/lr"] for line in lines(tmp_path / "time")[:-1]]
    assert rates[0] == 2e-4 > rates[-1]


def test_old_checkpoints_are_removed(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "train.checkpoint_every=1", "train.keep_checkpoints=3")
    assert steps_of_checkpoints(run) == [2, 3, 4]


def test_a_run_of_its_own_name_and_time(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert p2pkit("run", recipe, "--set", "train.max_steps=1").code == 0
    assert len(list((tmp_path / "runs" / "small").glob("*/model.safetensors"))) == 2


@pytest.mark.parametrize(
    "settings",
    [
        ["train.precision=bf16"],
        ["generator.name=resnet", "generator.blocks=1", "generator.width=4"],
        ["generator.norm=instance", "discriminator.norm=instance", "loader.batch_size=1"],
        ["losses.0.name=hinge"],
        ["losses.0.name=lsgan", "losses.0.weight=0.5"],
        ["losses.0.weight=0"],
        ["discriminator.conditional=false", "data.direction=BtoA"],
        ["schedule.name=cosine", "transform.flip=false"],
        ["transform.crop_size=[16, 24]", "transform.load_size=[20, 32]"],
        ["optimizer.generator.lr=1e-3", "optimizer.discriminator.weight_decay=0.1"],
    ],
    ids=lambda settings: settings[0],
)
def test_what_recipes_can_vary_trains(p2pkit: Call, recipe: Path, tmp_path: Path, settings: list[str]) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", *settings)
    assert all(value == value for line in lines(run) for value in line.values()), "not a number"
    assert tomllib.loads((run / "recipe.toml").read_text())["train"]["max_steps"] == 4


def test_only_the_losses_with_a_weight_train(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "losses.0.weight=0")
    assert "generator/gan" not in lines(run)[0] and "generator/l1" in lines(run)[0]


def test_two_losses_of_one_name_both_count(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(
        recipe.read_text() + '\n[[losses]]\nname = "l1"\nweight = 100\n[[losses]]\nname = "l1"\nweight = 50\n'
    )
    first = lines(train(p2pkit, recipe, tmp_path / "run"))[0]
    assert first["generator/l1"] == pytest.approx(2 * first["generator/l1_2"])


def test_the_last_steps_are_logged_and_resuming_a_finished_run_changes_nothing(
    p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "train.log_every=3", "train.checkpoint_every=4")
    before = lines(run)
    assert [(line["step"], line["split"]) for line in before] == [(3, "train"), (4, "train"), (4, "validation")]
    assert p2pkit("run", "--resume", run).code == 0
    assert lines(run) == before
    assert library.load_model(run / "model.safetensors").header.metrics


EXPLODING = ("optimizer.name=sgd", "optimizer.lr=1e3", "generator.norm=none", "discriminator.norm=none")


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_batch(
    p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    settings = (*EXPLODING, "train.max_steps=50", "train.checkpoint_every=1")
    run = tmp_path / "run"
    outcome = p2pkit("run", recipe, "--out", run, *(word for setting in settings for word in ("--set", setting)))
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert "is not a finite number" in outcome.err and f"p2pkit run --resume {run}" in outcome.err
    (left,) = (run / "not_finite").iterdir()
    assert f"p2pkit replay {left}" in outcome.err
    assert {name: tuple(value.shape) for name, value in load_file(left / "process_0.safetensors").items()} == {
        "source": (2, 3, 16, 16), "target": (2, 3, 16, 16),
    }  # fmt: skip
    failed = int(left.name.split("_")[1])
    assert f"step {failed}: " in outcome.err and steps_of_checkpoints(run)[-1] == failed - 1
    resumed = p2pkit("run", "--resume", run)
    assert resumed.code == 2 and f"step {failed}: " in resumed.err
    files = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    made_again = p2pkit("replay", left)
    assert made_again.code == 0, made_again.err
    found = re.search(r"is not a finite number: (.*)\. The files were (.*)\. Lower", outcome.err)
    assert found is not None and f"process_0.safetensors: {found[2]}" in made_again.out
    for name, value in (term.split(" = ") for term in found[1].split(", ")):
        again = re.search(rf"generator/{name} = (\S+)", made_again.out)
        assert again is not None and float(again[1]) == pytest.approx(float(value), rel=1e-4)
    assert "the first that is not finite, from finite values" in made_again.out
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == files


def test_a_gradient_that_is_no_number_never_reaches_the_weights(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = (*EXPLODING, "optimizer.lr=1e5", "train.max_steps=50", "train.checkpoint_every=1")
    outcome = p2pkit("run", recipe, "--out", run, *(word for setting in settings for word in ("--set", setting)))
    assert outcome.code == 2 and "the gradient of the discriminator is not finite" in outcome.err
    assert all(bool(value.isfinite().all()) for value in load_file(next(run.rglob("networks.safetensors"))).values())


def test_what_is_not_left_by_a_run_cannot_be_made_again(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    assert "there is no such folder; give a run folder" in p2pkit("replay", tmp_path / "nowhere").err
    outcome = p2pkit("replay", run / "not_finite" / "step_00000002")
    assert outcome.code == 2 and "not a folder that a run has left" in outcome.err
    (run / "not_finite" / "step_00000002").mkdir(parents=True)
    for name in ("process_0", "networks"):
        (run / "not_finite" / "step_00000002" / f"{name}.safetensors").write_bytes(b"torn")
    outcome = p2pkit("replay", run / "not_finite" / "step_00000002")
    assert outcome.code == 2 and "damaged" in outcome.err and "Traceback" not in outcome.err


def test_clipped_gradients_take_smaller_steps(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    settings = ("optimizer.name=sgd", "optimizer.lr=1.0", "train.max_steps=1")
    free = weights(train(p2pkit, recipe, tmp_path / "free", *settings))
    clipped = weights(train(p2pkit, recipe, tmp_path / "clipped", *settings, "optimizer.clip_gradient_norm=1e-6"))
    still = weights(train(p2pkit, recipe, tmp_path / "still", *settings, "optimizer.clip_gradient_norm=1e-12"))
    key = "decoders.0.1.weight"
    assert torch.allclose(clipped[key], still[key], atol=1e-5)
    assert not torch.allclose(free[key], still[key], atol=1e-5)


def test_losses_fall(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    settings = ("train.max_steps=150", "train.log_every=50", "train.checkpoint_every=150", "optimizer.lr=2e-3")
    run = train(p2pkit, recipe, tmp_path / "run", *settings, "train.sample_every=150", "generator.dropout=0.0")
    first, _, last = [line["generator/l1"] for line in lines(run)[:3]]
    assert last < 0.8 * first


def test_paired_folders_train_across_endings(p2pkit: Call, tmp_path: Path, recipe: Path) -> None:
    for index in range(4):
        for side, ending in (("map", "png"), ("photo", "jpg")):
            file = tmp_path / "folders" / "train" / side / f"{index}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L" if side == "map" else "RGB", (24, 24), index * 10).save(file)
    data = '[data]\nname = "paired_folders"\nroot = "{}"\nsource = "map"\ntarget = "photo"\n'.format(
        tmp_path / "folders"
    )
    old = recipe.read_text()
    recipe.write_text(old[: old.index("[data]")] + data + old[old.index("[loader]") :])
    header = library.load_model(train(p2pkit, recipe, tmp_path / "run") / "model.safetensors").header
    assert (header.source_channels, header.target_channels) == (1, 3)
