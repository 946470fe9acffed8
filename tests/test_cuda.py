"""On a GPU: runs in every precision, steps replayed from a CUDA graph, and how exactly a resumed run follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from p2pkit.contracts import Batch
from p2pkit.training import recorded_steps
from p2pkit.training.cuda_recorder import CudaRecorder
from p2pkit.training.recorded_steps import WARM_UP
from p2pkit.training.trainer import Trainer
from tests.conftest import Call, distribution, lines, picture, save, train

DETERMINISTIC = "train.deterministic=true"
RUNS = [
    ("generator.dropout=0.5", "train.ema_decay=0.9", "optimizer.clip_gradient_norm=0.5"),
    ('schedule={name="linear_decay", decay_from=0.2, warmup=5}', "optimizer.name=adamw", "train.precision=bf16"),
    ('discriminator_augmentation={policy=["colour"], adaptive_target=0.6}', "discriminator.spectral_norm=true"),
    ('losses=[{name="gan"}, {name="r1"}, {name="l1"}]', "optimizer.name=sgd", "loader.batch_size=1"),
    ('method.activations="before_update"', 'loader.cache="device"'),
]
WAITING = """
import p2pkit


@p2pkit.hookimpl
def register_losses(register):
    import torch

    class Waiting:
        def __init__(self, how: str) -> None:
            self.how = how

        def generator_loss(self, step):
            term = (step.fake - step.target).abs().mean()
            if self.how == "waits":
                return term * (1.0 if term > 0 else 2.0)
            return term * torch.rand(()).item() if self.how == "draws" else term

    register("waiting", Waiting)
"""

FLAT = """
import p2pkit


@p2pkit.hookimpl
def register_losses(register):
    import torch

    class Flat:
        '''NaN where a source is black, which the device finds out.'''

        def generator_loss(self, step):
            black = (step.source < -0.99).all()
            return torch.where(black, torch.nan, (step.fake - step.target).abs().mean())

    register("flat", Flat)
"""

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
        once = self.state.step in (0, WARM_UP)  # what happens once may wait: the recording of a step
        torch.cuda.set_sync_debug_mode("default" if once else "error")
        try:
            step(self, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Trainer, "_train_step", watched)
    train(p2pkit, recipe, tmp_path / "run", "loader.batch_size=1", "train.max_steps=8", *extra)


@pytest.fixture
def recipe(recipe: Path) -> Path:
    """A recipe whose steps are to be replayed."""
    recipe.write_text(recipe.read_text().replace("[train]", "[train]\ncuda_graphs = true"))
    return recipe


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A word for each step that is replayed."""
    found, replay = list[str](), CudaRecorder.replay

    def noted(self: CudaRecorder) -> Any:
        found.append("replayed")
        return replay(self)

    monkeypatch.setattr(CudaRecorder, "replay", noted)
    yield found


@contextmanager
def one_operation_after_another() -> Iterator[None]:
    """All steps in the body are those before one is recorded, with rates on the device, which rounds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded_steps, "WARM_UP", 1000)
        yield


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").glob("step_*"))[-1] / "networks.safetensors")


@pytest.mark.parametrize("settings", RUNS)
def test_replayed_steps_are_those_made_one_operation_after_another(
    settings: tuple[str, ...], p2pkit: Call, recipe: Path, tmp_path: Path, replays: list[str]
) -> None:
    settings = (*settings, DETERMINISTIC, "train.max_steps=10", "train.checkpoint_every=5")
    replayed = train(p2pkit, recipe, tmp_path / "replayed", *settings)
    assert len(replays) == 10 - WARM_UP
    with one_operation_after_another():
        plain = train(p2pkit, recipe, tmp_path / "plain", *settings)
    assert len(replays) == 10 - WARM_UP
    one, other = weights(replayed), weights(plain)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert lines(replayed) == lines(plain)


def test_a_deterministic_run_resumes_to_the_same_bytes(
    p2pkit: Call, recipe: Path, tmp_path: Path, replays: list[str]
) -> None:
    settings = ("generator.dropout=0.5", "train.ema_decay=0.9", DETERMINISTIC)
    alone = train(p2pkit, recipe, tmp_path / "alone", *settings, "train.max_steps=12")
    train(p2pkit, recipe, tmp_path / "begun", *settings, "train.max_steps=6")
    assert p2pkit("run", "--resume", tmp_path / "begun", "--set", "train.max_steps=12").code == 0
    assert len(replays) == 12 - WARM_UP + 2 * (6 - WARM_UP)
    assert (alone / "model.safetensors").read_bytes() == (tmp_path / "begun/model.safetensors").read_bytes()


def test_a_black_image_late_in_a_replayed_run_is_named(
    p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path, replays: list[str]
) -> None:
    folder = distribution(tmp_path / "plugins", "p2pkit-spoilt", "1.0", {"spoilt": "p2pkit_spoilt"})
    (folder / "p2pkit_spoilt.py").write_text(FLAT)
    save(pairs / "train" / "3.png", picture(24, 48, 1) * 0)
    command = ["--plugins-dir", folder, "run", recipe, "--out", tmp_path / "run"]
    for each in (
        'losses=[{name="gan"}, {name="flat"}]',
        "train.log_every=50",
        "train.sample_every=50",
        "loader.batch_size=1",
    ):
        command += ["--set", each]
    outcome = p2pkit(*command, "--set", "train.max_steps=12", "--set", "train.checkpoint_every=100")
    assert outcome.code == 2 and "3.png" in outcome.err and "flat = nan" in outcome.err, outcome.err
    assert len(replays) == 12 - WARM_UP


@pytest.mark.parametrize(("how", "why"), [("waits", "a step waits for the GPU"), ("draws", "numbers are drawn on")])
def test_what_cannot_be_replayed_is_said(
    how: str, why: str, p2pkit: Call, recipe: Path, tmp_path: Path, replays: list[str]
) -> None:
    folder = distribution(tmp_path / "plugins", "p2pkit-waiting", "1.0", {"waiting": "p2pkit_waiting"})
    (folder / "p2pkit_waiting.py").write_text(WAITING)
    losses = f'losses=[{{name="gan"}}, {{name="waiting", how="{how}"}}]'
    outcome = p2pkit(
        "--plugins-dir", folder, "run", recipe, "--set", losses, "--set", "train.max_steps=8", "--out", tmp_path / "run"
    )
    assert outcome.code == 0 and not replays
    assert f"not from a CUDA graph: {why}" in outcome.err


def test_a_recording_that_fails_leaves_a_run_as_it_would_be(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = CudaRecorder.record

    def failing(self: CudaRecorder, work: Callable[[], Any]) -> None:
        def waiting() -> Any:
            work()
            return torch.ones(1, device="cuda").item()

        record(self, waiting)

    settings = ("generator.dropout=0.5", DETERMINISTIC, "train.max_steps=8")
    with one_operation_after_another():
        plain = train(p2pkit, recipe, tmp_path / "plain", *settings)
    monkeypatch.setattr(CudaRecorder, "record", failing)
    run = train(p2pkit, recipe, tmp_path / "run", *settings)
    one, other = weights(plain), weights(run)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_compiled_networks_are_replayed(p2pkit: Call, recipe: Path, tmp_path: Path, replays: list[str]) -> None:
    settings = ("optimizer.name=sgd", "optimizer.lr=0.001", "generator.dropout=0.5", "train.max_steps=8")
    with one_operation_after_another():
        plain = weights(train(p2pkit, recipe, tmp_path / "plain", *settings))
    compiled = weights(train(p2pkit, recipe, tmp_path / "compiled", *settings, "train.compile=true"))
    assert len(replays) == 8 - WARM_UP
    assert max(float((plain[name] - compiled[name]).abs().max()) for name in plain) < 1e-3
