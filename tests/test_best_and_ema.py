"""Validation on the way, the best step kept, and the moving average (EMA) of the generator's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import p2pkit as library
from tests.conftest import Call, lines, steps_of_checkpoints, train

# a learning rate so high that the metrics get worse again
RESTLESS = ("train.max_steps=12", "validation.every=2", "train.checkpoint_every=4", "optimizer.lr=0.02")


def validated(run: Path) -> dict[int, float]:
    return {line["step"]: line["validation/mae"] for line in lines(run) if line["split"] == "validation"}


def test_the_best_step_is_kept_beside_the_last_ones(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", *RESTLESS)
    metrics = validated(run)
    assert list(metrics) == [2, 4, 6, 8, 10, 12]
    best = min(metrics, key=lambda step: metrics[step])
    last_two = [8, 12] if best not in (10, 12) else [10, 12]
    assert steps_of_checkpoints(run) == sorted({best, *last_two})
    header = library.load_model(run / "best.safetensors").header
    assert header.step == best and header.metrics["validation/mae"] == metrics[best]
    assert library.load_model(run / "model.safetensors").header.step == 12
    saved = load_file(run / "checkpoints" / f"step_{best:08}" / "networks.safetensors")
    generator = {name.removeprefix("generator|"): value for name, value in saved.items() if name.startswith("gen")}
    best_weights = load_file(run / "best.safetensors")
    assert best_weights.keys() == generator.keys()
    assert all(torch.equal(best_weights[name], generator[name]) for name in generator)


@pytest.mark.parametrize("settings", [RESTLESS, (*RESTLESS, "train.ema_decay=0.5", "validation.every=3")])
def test_resuming_keeps_the_best_the_ema_and_every_line(
    p2pkit: Call, recipe: Path, tmp_path: Path, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2pkit.training.trainer import Trainer

    alone = train(p2pkit, recipe, tmp_path / "alone", *settings)
    write = Trainer._write_what_is_due

    def killed_at_seven(self: Trainer) -> None:
        if self.state.step == 7:
            raise KeyboardInterrupt
        write(self)

    words = [word for setting in settings for word in ("--set", setting)]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_write_what_is_due", killed_at_seven)
        assert p2pkit("run", recipe, "--out", tmp_path / "run", *words).code == 130
    for _ in range(2):  # a run that has ended comes to the same end
        assert p2pkit("run", "--resume", tmp_path / "run").code == 0
        for name in ("model.safetensors", "best.safetensors", "metrics.jsonl"):
            assert (tmp_path / "run" / name).read_bytes() == (alone / name).read_bytes(), name
        assert steps_of_checkpoints(tmp_path / "run") == steps_of_checkpoints(alone)


def test_the_baseline_is_measured_once_at_the_end(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "validation.every=2", "validation.baseline=class_mean_colour")
    measured = [line for line in lines(run) if line["split"] == "validation"]
    assert [(line["step"], "class_mean_colour/mae" in line) for line in measured] == [(2, False), (4, True)]


def test_the_model_is_the_ema_of_the_weights(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    decay, every_step = 0.75, ("train.checkpoint_every=1", "train.keep_checkpoints=9")
    run = train(p2pkit, recipe, tmp_path / "run", f"train.ema_decay={decay}", *every_step)
    plain = train(p2pkit, recipe, tmp_path / "plain", *every_step)
    name, average = "decoders.0.1.weight", torch.empty(0)
    for step in range(1, 5):
        saved = load_file(run / "checkpoints" / f"step_{step:08}" / "networks.safetensors")
        weight = saved[f"generator|{name}"]
        assert torch.equal(
            weight, load_file(plain / "checkpoints" / f"step_{step:08}" / "networks.safetensors")[f"generator|{name}"]
        )
        average = weight if step == 1 else decay * average + (1 - decay) * weight
    model = load_file(run / "model.safetensors")
    assert torch.allclose(model[name], average, atol=1e-6)
    assert not torch.allclose(model[name], weight, atol=1e-6)
    assert model.keys() == load_file(plain / "model.safetensors").keys()
    assert validated(run) != validated(plain)
