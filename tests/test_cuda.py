"""On a GPU: runs in every precision, and how exactly a resumed run follows one that was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from p2pkit.contracts import Batch
from p2pkit.training.trainer import Trainer
from tests.conftest import Call, lines, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_resumed_run_follows_one_left_alone(precision: str, p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    settings = (f"train.precision={precision}", "train.ema_decay=0.9", "train.max_steps=8")
    alone = train(p2pkit, recipe, tmp_path / "alone", *settings)
    train(p2pkit, recipe, tmp_path / "begun", *settings, "train.max_steps=4")
    assert p2pkit("run", "--resume", tmp_path / "begun", "--set", "train.max_steps=8").code == 0
    one, other = (load_file(run / "model.safetensors") for run in (alone, tmp_path / "begun"))
    # convolutions on CUDA may add in another order each time
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-3
    assert [(line["step"], line["split"]) for line in lines(alone)] == [
        (line["step"], line["split"]) for line in lines(tmp_path / "begun")
    ]


def test_a_model_trained_on_a_gpu_translates_on_a_cpu(p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path) -> None:
    model = train(p2pkit, recipe, tmp_path / "run") / "model.safetensors"
    outcome = p2pkit("translate", model, pairs / "test", "--out", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    "extra", [(), ("train.ema_decay=0.9", "optimizer.clip_gradient_norm=0.5", "train.precision=bf16")]
)
def test_no_step_waits_for_the_gpu(
    extra: tuple[str, ...], p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._train_step

    def watched(self: Trainer, batch: Batch) -> None:
        torch.cuda.set_sync_debug_mode("error" if self.state.step else "default")  # what happens once may wait
        try:
            step(self, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Trainer, "_train_step", watched)
    train(p2pkit, recipe, tmp_path / "run", "loader.batch_size=1", "train.max_steps=8", *extra)
