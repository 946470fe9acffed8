"""Batches made in parts: one step of all of them, with the gradients and the draws of the whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from p2pkit.training.step import StepContext
from tests.conftest import Call, train
from tests.test_many_processes import WITHOUT_STATISTICS, assert_same_weights, launch

DRAWING = ("generator.dropout=0.5", "loader.batch_size=4", "train.accumulate=2")


def test_parts_give_the_weights_of_the_whole(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    settings = (*WITHOUT_STATISTICS, "loader.batch_size=4", "optimizer.clip_gradient_norm=0.5")
    whole = train(p2pkit, recipe, tmp_path / "whole", *settings)
    parts = train(p2pkit, recipe, tmp_path / "parts", *settings, "train.accumulate=4")
    assert_same_weights(whole, parts)
    before = train(p2pkit, recipe, tmp_path / "before", *settings, "train.max_steps=1")
    one, other = (load_file(run / "model.safetensors") for run in (whole, before))
    assert max(float((one[key] - other[key]).abs().max()) for key in one) > 1e-4


def test_a_generator_draws_the_same_for_a_part_in_both_updates(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def noted(*given: torch.Tensor) -> None:
        seen.append(given[3].detach().clone())
        made(*given)  # type: ignore[arg-type]

    made = StepContext.__init__
    monkeypatch.setattr(StepContext, "__init__", noted)
    train(p2pkit, recipe, tmp_path / "run", *DRAWING, "train.max_steps=1", "generator.norm=instance")
    first, second, again, again_second = seen[-4:]
    assert torch.equal(first, again) and torch.equal(second, again_second) and not torch.equal(first, second)


def test_a_run_in_parts_resumes_exactly(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    whole = train(p2pkit, recipe, tmp_path / "whole", *DRAWING)
    cut = shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(cut / "checkpoints" / "step_00000004")
    assert p2pkit("run", "--resume", cut).code == 0
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_two_processes_in_parts_give_the_weights_of_one(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    settings = (*WITHOUT_STATISTICS, "loader.batch_size=4")
    whole = train(p2pkit, recipe, tmp_path / "whole", *settings)
    given = [part for each in (*settings, "train.accumulate=2") for part in ("--set", each)]
    running = launch("run", recipe, "--out", tmp_path / "two", *given)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert_same_weights(whole, tmp_path / "two")


def test_what_cannot_be_cut_is_refused(p2pkit: Call, recipe: Path) -> None:
    odd = p2pkit("check", recipe, "--set", "loader.batch_size=4", "--set", "train.accumulate=3")
    assert odd.code == 2 and "make it a multiple of both together, 3" in odd.err
