"""One command that starts a run and resumes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Call


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_the_same_command_starts_a_run_and_resumes_it(p2pkit: Call, recipe: Path, run: Path) -> None:
    command = ("run", recipe, "--out", run, "--continue", "--set", "train.log_every=2", "--device", "cpu")
    assert p2pkit(*command).code == 0
    whole = (run / "model.safetensors").read_bytes()
    # as a kill after the checkpoint of step 2 leaves it
    shutil.rmtree(run / "checkpoints" / "step_00000004")
    again = p2pkit(*command)
    assert again.code == 0 and "resuming from step 2" in again.err
    assert (run / "model.safetensors").read_bytes() == whole
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 4]
    assert "resuming from step 4" in p2pkit(*command).err


@pytest.mark.parametrize("left", ["environment.json", ".lock", ".recipe.toml.77.part"])
def test_a_run_killed_before_its_first_checkpoint_starts_anew(left: str, p2pkit: Call, recipe: Path, run: Path) -> None:
    run.mkdir()
    (run / left).write_text('{"id": "0123456789abcdef"}')
    outcome = p2pkit("run", recipe, "--out", run, "--continue")
    assert outcome.code == 0 and "resuming" not in outcome.err


def test_a_depth_that_followed_the_crop_is_that_of_the_run(p2pkit: Call, recipe: Path, run: Path) -> None:
    text = recipe.read_text()
    assert "depth = " in text
    recipe.write_text("\n".join(line for line in text.splitlines() if not line.startswith("depth = ")))
    command = ("run", recipe, "--out", run, "--continue", "--device", "cpu")
    assert p2pkit(*command).code == 0
    again = p2pkit(*command)
    assert again.code == 0 and "resuming from step 4" in again.err, again.err
    assert "this run is over at step 4" in again.err
    assert p2pkit(*command, "--set", "generator.depth=3").code == 2


def test_a_run_of_another_recipe_is_not_resumed(p2pkit: Call, recipe: Path, run: Path) -> None:
    assert p2pkit("run", recipe, "--out", run).code == 0
    before = (run / "model.safetensors").stat().st_mtime_ns
    changed = ("--set", "generator.width=6", "--set", "losses.1.weight=50", "--set", "optimizer.generator.lr=0.1")
    outcome = p2pkit("run", recipe, "--out", run, "--continue", *changed)
    assert outcome.code == 2
    found = [line for line in outcome.err.splitlines() if line.startswith("  ")]
    assert "  generator.width: 4 there, 6 now" in found and "  losses.1.weight: 100.0 there, 50.0 now" in found
    assert "  optimizer.generator.lr: nothing there, 0.1 now" in found
    assert not [line for line in found if "train" in line]
    assert f"p2pkit run --resume {run}" in outcome.err
    assert (run / "model.safetensors").stat().st_mtime_ns == before


def test_changed_data_is_not_resumed(p2pkit: Call, recipe: Path, run: Path, pairs: Path) -> None:
    assert p2pkit("run", recipe, "--out", run).code == 0
    (pairs / "train" / "0.png").unlink()
    outcome = p2pkit("run", recipe, "--out", run, "--continue")
    assert outcome.code == 2 and "is not what this run was trained on" in outcome.err
    assert p2pkit("run", recipe, "--out", run, "--continue", "--accept-changed-data").code == 0


def test_continue_needs_a_folder_and_does_not_go_with_resume(p2pkit: Call, recipe: Path, run: Path) -> None:
    nowhere = p2pkit("run", recipe, "--continue")
    assert nowhere.code == 2 and "--continue needs --out DIR" in nowhere.err
    both = p2pkit("run", "--continue", "--resume", run)
    assert both.code == 2 and "leave out" in both.err
