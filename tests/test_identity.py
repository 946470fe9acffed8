"""Which run a checkpoint is of, and by what it was trained: what has changed since is shown, and must be accepted."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import Call, distribution, lines, train

EXPLODING = ("optimizer.name=sgd", "optimizer.lr=1e5", "generator.norm=none", "discriminator.norm=none")
RATE = ("lr = 0.0002", "lr = 0.01")


@pytest.fixture
def run(tmp_path: Path, recipe: Path, p2pkit: Call) -> Path:
    """A run that was killed after its second step."""
    made = train(p2pkit, recipe, tmp_path / "run")
    shutil.rmtree(made / "checkpoints" / "step_00000004")
    return made


def edit(run: Path, *changes: tuple[str, str]) -> None:
    file = run / "recipe.toml"
    text = file.read_text()
    for before, now in changes:
        assert before in text
        text = text.replace(before, now)
    file.write_text(text)


def rates(run: Path) -> list[float]:
    return [line["generator/lr"] for line in lines(run) if line["split"] == "train"]


def test_an_edited_recipe_is_shown_and_must_be_accepted(p2pkit: Call, run: Path) -> None:
    edit(run, RATE, ("seed = 0", "seed = 5"))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    outcome = p2pkit("run", "--resume", run)
    assert outcome.code == 2 and "optimizer.lr: 0.0002 -> 0.01" in outcome.err and "run.seed: 0 -> 5" in outcome.err
    assert "--accept-changed-recipe" in outcome.err and "--accept-changed-versions" not in outcome.err
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    accepted = p2pkit("run", "--resume", run, "--accept-changed-recipe")
    assert accepted.code == 0 and "optimizer.lr = 0.01 (it was 0.0002)" in accepted.err
    assert rates(run) == [0.0002, 0.0002, 0.01, 0.01]
    (noted,) = map(json.loads, (run / "changes.jsonl").read_text().splitlines())
    assert noted["step"] == 2 and noted["changes"]["run.seed"] == [0, 5]
    assert p2pkit("run", "--resume", run).code == 0  # it is the run's recipe now


def test_a_recipe_that_says_the_same_in_other_words_is_no_other(p2pkit: Call, run: Path) -> None:
    edit(run, ("lr = 0.0002", "lr = 2e-4 # the paper's"), ("[run]", "\n\n[run]"))
    outcome = p2pkit("run", "--resume", run)
    assert outcome.code == 0, outcome.err


def test_what_set_has_changed_needs_no_option_later_not_even_after_a_kill(p2pkit: Call, run: Path) -> None:
    whole = run.with_name("whole")
    shutil.copytree(run, whole)
    settings = ("--set", "optimizer.lr=0.01", "--set", "optimizer.betas=[0.9,0.9]")
    assert p2pkit("run", "--resume", whole, *settings).code == 0
    # killed after the change, before the next checkpoint
    assert p2pkit("run", "--resume", run, *settings).code == 0
    shutil.rmtree(run / "checkpoints" / "step_00000004")
    again = p2pkit("run", "--resume", run)
    assert again.code == 0, again.err
    assert "resuming from step 2" in again.err
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert len((run / "changes.jsonl").read_text().splitlines()) == 1


def test_an_edit_beside_a_change_that_is_noted_is_still_seen(p2pkit: Call, run: Path) -> None:
    assert p2pkit("run", "--resume", run, "--set", "optimizer.lr=0.01").code == 0
    shutil.rmtree(run / "checkpoints" / "step_00000004")
    edit(run, ("seed = 0", "seed = 5"))
    outcome = p2pkit("run", "--resume", run)
    assert outcome.code == 2 and "run.seed: 0 -> 5" in outcome.err


def test_checkpoints_of_another_run_are_not_resumed_from(p2pkit: Call, recipe: Path, run: Path) -> None:
    other = train(p2pkit, recipe, run.with_name("other"), "optimizer.lr=0.01")
    shutil.copytree(other / "checkpoints" / "step_00000004", run / "checkpoints" / "step_00000004")
    ours, theirs = (json.loads((one / "environment.json").read_text())["id"] for one in (run, other))
    outcome = p2pkit("run", "--resume", run)
    assert outcome.code == 2 and f"step_00000004 is of another run: {theirs}" in outcome.err and ours in outcome.err
    assert "optimizer.lr: 0.01 -> 0.0002" in outcome.err
    assert p2pkit("run", "--resume", run, "--accept-changed-recipe").code == 0
    # an earlier one is not what a later damage may lead back to either
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    assert p2pkit("run", "--resume", run).code == 0, "it is that run now"
    copy = run.with_name("copy")
    shutil.copytree(run, copy)
    assert p2pkit("run", "--resume", copy).code == 0, "a copy of a whole run folder is that run"


def test_continue_goes_by_the_same_rules(p2pkit: Call, recipe: Path, run: Path) -> None:
    recipe.write_text(recipe.read_text() + "\n[optimizer]\nlr = 0.01\n")
    command = ("run", recipe, "--out", run, "--continue")
    given = p2pkit(*command)
    assert given.code == 2 and "optimizer.lr: 0.0002 there, 0.01 now" in given.err
    assert "--accept-changed-recipe" in given.err
    edit(run, RATE)
    both = p2pkit(*command)
    assert both.code == 2 and "optimizer.lr: 0.0002 -> 0.01" in both.err
    accepted = p2pkit(*command, "--accept-changed-recipe")
    assert accepted.code == 0, accepted.err
    assert rates(run) == [0.0002, 0.0002, 0.01, 0.01]
    assert p2pkit(*command).code == 0


def test_continue_takes_the_recipe_that_is_given_where_it_is_accepted(p2pkit: Call, recipe: Path, run: Path) -> None:
    recipe.write_text(recipe.read_text() + "\n[optimizer]\nlr = 0.01\n")
    assert p2pkit("run", recipe, "--out", run, "--continue", "--accept-changed-recipe").code == 0
    assert rates(run) == [0.0002, 0.0002, 0.01, 0.01]
    assert "lr = 0.01" in (run / "recipe.toml").read_text()


def test_other_versions_are_shown_and_must_be_accepted(
    p2pkit: Call, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pkit.runs.__version__", "9.1")
    outcome = p2pkit("run", "--resume", run)
    assert outcome.code == 2 and re.search(r"p2pkit: '.*' -> '9\.1'", outcome.err)
    assert "--accept-changed-versions" in outcome.err and "--accept-changed-recipe" not in outcome.err
    assert p2pkit("run", "--resume", run, "--accept-changed-versions").code == 0
    assert p2pkit("run", "--resume", run).code == 0


PLUGIN = """
import torch
from p2pkit import hookimpl

class Half(torch.nn.Module):
    def forward(self, output, target):
        return (output - target).abs().mean() * {factor}

@hookimpl
def register_losses(register):
    register("half", Half)
"""


def test_versions_and_code_of_plugins_in_use_are_compared(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    module = plugins / "half_loss.py"
    distribution(plugins, "p2pkit-half", "1.0", {"half": "half_loss"})
    distribution(plugins, "p2pkit-unused", "1.0", {"unused": "unused_one"})
    module.write_text(PLUGIN.format(factor=0.5))
    (plugins / "unused_one.py").write_text("")
    recipe.write_text(recipe.read_text() + '\n[[losses]]\nname = "half"\n\n[discriminator_augmentation]\n')
    command = ("--plugins-dir", plugins, "run")
    begun = p2pkit(*command, recipe, "--out", tmp_path / "run")
    assert begun.code == 0, begun.err
    module.write_text(PLUGIN.format(factor=0.25))
    (plugins / "p2pkit_unused-1.0.dist-info").rename(plugins / "p2pkit_unused-2.0.dist-info")
    same = p2pkit(*command, "--resume", tmp_path / "run")
    assert same.code == 0 and "NOTICE: since this run was last started" in same.err and "p2pkit-half: " in same.err
    shutil.rmtree(plugins / "p2pkit_half-1.0.dist-info")
    distribution(plugins, "p2pkit-half", "1.1", {"half": "half_loss"})
    other = p2pkit(*command, "--resume", tmp_path / "run")
    assert other.code == 2 and "p2pkit-half: '1.0' -> '1.1'" in other.err and "unused" not in other.err
    assert p2pkit(*command, "--resume", tmp_path / "run", "--accept-changed-versions").code == 0


def test_other_threads_are_said_to_end_in_other_bytes(p2pkit: Call, run: Path) -> None:
    same = p2pkit("run", "--resume", run)
    assert same.code == 0 and "bytes" not in same.err
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        other = p2pkit("run", "--resume", run)
    finally:
        torch.set_num_threads(threads)
    assert other.code == 0 and f"threads: {threads} -> {threads + 1}" in other.err and "other bytes" in other.err


def test_replay_says_where_the_step_was_made_by_something_else(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = (*EXPLODING, "train.max_steps=50")
    failed = p2pkit("run", recipe, "--out", run, *(word for setting in settings for word in ("--set", setting)))
    assert failed.code == 2 and "p2pkit replay" in failed.err, failed.err
    same = p2pkit("replay", run)
    assert same.code == 0 and "NOTICE" not in same.out
    edit(run, ("seed = 0", "seed = 5"))
    other = p2pkit("replay", run)
    assert other.code == 0 and "NOTICE: this step was not made by what is here now" in other.out
    assert "run.seed: 0 -> 5" in other.out


def test_accepting_goes_with_resuming_alone(p2pkit: Call, recipe: Path) -> None:
    for option in ("--accept-changed-recipe", "--accept-changed-versions"):
        outcome = p2pkit("run", recipe, option)
        assert outcome.code == 2 and "--accept-changed-... goes with --resume and --continue" in outcome.err
