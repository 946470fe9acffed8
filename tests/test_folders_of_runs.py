"""A folder of runs in place of a run: the newest is taken, and said; and what a run records of its starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

import p2pkit as package
from p2pkit.errors import ModelFileError
from tests.conftest import REPOSITORY, Call, lines, picture, save, train


@pytest.fixture
def runs(recipe: Path, tmp_path: Path, p2pkit: Call) -> Path:
    """runs/small with two runs, of which the one that comes first by name is the newer; beside them what is no run."""
    old = train(p2pkit, recipe, tmp_path / "runs" / "small" / "b", "train.max_steps=2")
    new = train(p2pkit, recipe, tmp_path / "runs" / "small" / "a", "train.max_steps=3")
    for run, time in ((old, 1000), (new, 2000)):
        os.utime(run / "recipe.toml", (time, time))
    (tmp_path / "runs" / "small" / "notes").mkdir()
    return tmp_path / "runs"


def test_the_newest_run_below_a_folder_is_taken(runs: Path, tmp_path: Path, p2pkit: Call) -> None:
    newest = runs / "small" / "a"
    image = save(tmp_path / "1.png", picture(16, 16, 1))
    for given in (runs / "small", runs):
        said = f"NOTICE: {given}: the newest run in it is taken, {newest}\n"
        for command in (
            ("inspect", given), ("translate", given, image, "--out", tmp_path / "o"),
            ("evaluate", given, "--device", "cpu"), ("run", "--resume", given, "--device", "cpu"),
        ):  # fmt: skip
            done = p2pkit(*command)
            assert done.code == 0 and said in done.err, done.err
    assert p2pkit("inspect", runs, "--json").json["step"] == 3
    assert package.load_model(runs).header.step == 3
    assert package.resume(runs / "small", device="cpu").run_dir == newest
    assert package.evaluate(runs, device="cpu").facts["images"] == 2
    (newest / "model.safetensors").unlink()  # it is trained still
    assert package.load_model(runs).header.step == 2
    alone = p2pkit("inspect", newest)
    assert alone.code == 2 and f"{newest}: the run in this folder has no model.safetensors yet" in alone.err


def test_a_folder_without_runs_is_refused(runs: Path, tmp_path: Path, p2pkit: Call) -> None:
    folder = tmp_path / "things"
    for name in "gecadbf":
        (folder / name).mkdir(parents=True)
    listed = (
        f"{folder}: this is not a run folder, and no run with a {{}} is below it; it holds a, b, c, d, e and 2 more."
    )
    refused = p2pkit("inspect", folder)
    assert refused.code == 2 and listed.format("model.safetensors") in refused.err
    refused = p2pkit("run", "--resume", folder)
    assert refused.code == 2 and listed.format("recipe.toml") in refused.err
    assert "it holds nothing." in p2pkit("inspect", folder / "a").err
    shutil.copytree(runs / "small", runs / "other")
    several = f"{runs}: it holds runs of several names (other, small); give the folder of one"
    assert several in p2pkit("inspect", runs).err and several in p2pkit("run", "--resume", runs).err
    with pytest.raises(ModelFileError, match="several names"):
        package.load_model(runs)


def test_a_run_records_each_of_its_starts(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "--allow-empty", "-m", "x"]):
        (work / "x").write_text("1\n")
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.chdir(work)
    before = datetime.now(UTC).replace(microsecond=0)
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_time='1h'")
    (start,) = json.loads((run / "environment.json").read_text())["starts"]
    assert before <= datetime.fromisoformat(start["date"]) <= datetime.now(UTC)
    assert start["host"] and start["processor"] and start["threads"] == torch.get_num_threads()
    assert start["device"].startswith("cpu") or torch.cuda.is_available()
    assert len(start["gpus"]) == torch.cuda.device_count() and start["cuda"] == torch.version.cuda
    assert start["directory_commit"] == commit
    ours = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "HEAD"], capture_output=True, text=True)
    if ours.returncode == 0:
        assert start["p2pkit_commit"].removesuffix("-dirty") == ours.stdout.strip()
    (work / "x").write_text("2\n")
    monkeypatch.setattr("sys.argv", ["p2pkit", "run", "--resume", str(run)])
    assert p2pkit("run", "--resume", run, "--device", "cpu").code == 0
    first, second = json.loads((run / "environment.json").read_text())["starts"]
    assert first == start and second["command"] == ["p2pkit", "run", "--resume", str(run)]
    assert second["directory_commit"] == f"{commit}-dirty" and second["device"].startswith("cpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # no git
    alone = train(p2pkit, recipe, tmp_path / "alone")
    (start,) = json.loads((alone / "environment.json").read_text())["starts"]
    assert (start["p2pkit_commit"], start["directory_commit"]) == (None, None) and lines(alone)
