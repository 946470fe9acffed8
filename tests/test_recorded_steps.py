"""Steps replayed from a recorded one: the same run, and ordinary steps wherever replaying would be another one.

A stand-in for CUDA's graphs runs the recorded function again, on the tensors that it was recorded with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from p2pkit.training import finite, recorded_steps
from tests.conftest import Call, distribution, lines, picture, save, train
from tests.test_deferred_checks import SPOILT, assert_alike, words

PLUGIN = '''
import p2pkit


@p2pkit.hookimpl
def register_losses(register):
    import random

    import numpy as np
    import torch

    class Drawing:
        """Weighs its term by what is drawn by Python or NumPy."""

        def __init__(self, by: str) -> None:
            self.by = by

        def generator_loss(self, step):
            drawn = random.random() if self.by == "python" else np.random.random()
            return drawn * (step.fake - step.target).abs().mean()

    register("drawing", Drawing)


@p2pkit.hookimpl
def register_methods(register):
    from p2pkit.training.step import StepContext, generator_losses

    class Fading:
        """Weighs its term by how far the run is."""

        networks = ("generator",)

        def __init__(self, generator, losses, how: str = "progress") -> None:
            self.generator, self.losses, self.how = generator, losses, how
            self.seen = 0

        def train_step(self, batch, update):
            def terms(part):
                step = StepContext(part.source, part.target, self.generator(part.source))
                weight = 1 - update.progress / 2 if self.how == "progress" else 1.0
                if self.how == "moving":
                    old = self.generator._buffers.pop("seen", None)
                    self.generator.register_buffer("seen", step.fake.detach().mean() + (0 if old is None else old))
                return {name: weight * term for name, term in generator_losses(self.losses, step).items()}

            update("generator", terms)

    class Counting(Fading):
        """Has a state."""

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    register("fading", Fading)
    register("counting", Counting)
'''
NOTICE = "NOTICE: steps are made one operation after another, not from a CUDA graph: "
L1 = 'losses=[{name="l1"}]'


class Rerun:
    """Records a function, and replays it by calling it again; what it has given lies where it first lay."""

    made: list[Rerun]

    def __init__(self, device: torch.device) -> None:
        self.replays, self.left = 0, None
        self.made.append(self)

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        yield []

    def record(self, work: Callable[[], Any]) -> None:
        self.work = work

    def replay(self) -> Any:
        self.replays += 1
        left = self.work()
        if self.left is None:
            self.left = left
        self.left.values.copy_(left.values)
        return self.left


@pytest.fixture
def recipe(recipe: Path) -> Path:
    """A recipe whose steps are to be replayed."""
    recipe.write_text(recipe.read_text().replace("[train]", "[train]\ncuda_graphs = true"))
    return recipe


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Rerun]]:
    """The stand-ins that have been made; with them a CPU does as a GPU does."""
    monkeypatch.setattr(finite, "DEFERRED_ON", frozenset({"cpu"}))
    monkeypatch.setattr(recorded_steps, "RECORDERS", {"cpu": Rerun})
    monkeypatch.setattr(Rerun, "made", [], raising=False)
    yield Rerun.made


@contextmanager
def one_operation_after_another() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded_steps, "RECORDERS", {})
        yield


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = distribution(tmp_path / "plugins", "p2pkit-own", "1.0", {"own": "p2pkit_own", "spoilt": "p2pkit_spoilt"})
    (folder / "p2pkit_own.py").write_text(PLUGIN)
    (folder / "p2pkit_spoilt.py").write_text(SPOILT)
    return folder


def assert_same_state(one: Path, other: Path, step: int) -> None:
    for file in ("networks.safetensors", "optimizers.safetensors"):
        at = f"checkpoints/step_{step:08}/{file}"
        assert (one / at).read_bytes() == (other / at).read_bytes(), file


def assert_same_run(one: Path, other: Path, step: int) -> None:
    assert_same_state(one, other, step)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert lines(one) == lines(other)


@pytest.mark.parametrize(
    "settings",
    [
        ("generator.dropout=0.5", "train.ema_decay=0.9", "optimizer.clip_gradient_norm=0.5"),
        ('schedule={name="linear_decay", decay_from=0.2, warmup=5}', "optimizer.name=adamw"),
        ('discriminator_augmentation={policy=["colour"], adaptive_target=0.6}', "discriminator.spectral_norm=true"),
        ("optimizer.name=sgd", 'losses=[{name="gan"}, {name="r1"}, {name="l1"}]', "loader.batch_size=1"),
        ('method.activations="before_update"', "train.log_every=3"),
    ],
)
def test_a_run_is_the_same_and_resumes_in_the_middle(
    settings: tuple[str, ...], recipe: Path, tmp_path: Path, p2pkit: Call, recorders: list[Rerun]
) -> None:
    steps = (*settings, "train.max_steps=10", "train.checkpoint_every=5")
    with one_operation_after_another():
        plain = train(p2pkit, recipe, tmp_path / "plain", *steps)
    alone = train(p2pkit, recipe, tmp_path / "alone", *steps)
    assert [each.replays for each in recorders] == [10 - recorded_steps.WARM_UP]
    assert_same_run(plain, alone, 10)
    cut = train(p2pkit, recipe, tmp_path / "cut", *steps, "train.max_steps=5")
    outcome = p2pkit("run", "--resume", cut, "--set", "train.max_steps=10")
    assert outcome.code == 0, outcome.err
    assert [each.replays for each in recorders][1:] == [2, 2]
    if "schedule" not in settings[0]:  # which goes by the limit that the cut run has begun with
        assert_same_state(plain, cut, 10)


@pytest.mark.parametrize("how", ["loss", "gradient", "discriminator"])
def test_a_step_that_is_not_finite_ends_both_ways_alike(
    how: str, recipe: Path, pairs: Path, plugins: Path, tmp_path: Path, p2pkit: Call, recorders: list[Rerun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    save(pairs / "train" / "3.png", picture(24, 48, 1) * 0)  # in the fourth step
    monkeypatch.setattr(recorded_steps, "WARM_UP", 2)
    command = ("--plugins-dir", plugins, "run", recipe, *words(how, "train.ema_decay=0.9"), "--out")
    replayed = p2pkit(*command, tmp_path / "replayed")
    # the loss of SPOILT looks at its source, but for which it can be recorded
    assert [each.replays for each in recorders] == [5] and NOTICE not in replayed.err
    monkeypatch.setattr(finite, "DEFERRED_ON", frozenset())
    at_once = p2pkit(*command, tmp_path / "at_once")
    assert_alike((at_once, tmp_path / "at_once"), (replayed, tmp_path / "replayed"))
    assert "Error: step 4: " in replayed.err


def test_batches_of_another_size_are_made_one_operation_after_another(
    recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call, recorders: list[Rerun]
) -> None:
    save(pairs / "train" / "5.png", picture(16, 48, 5))
    sizes = ("loader.batch_size=1", "train.max_steps=18", "train.ema_decay=0.9", "generator.dropout=0.5")
    file = tmp_path / "whole.toml"
    file.write_text(recipe.read_text().replace("load_size = 20\ncrop_size = 16\n", ""))
    with one_operation_after_another():
        plain = train(p2pkit, file, tmp_path / "plain", *sizes)
    outcome = p2pkit("run", file, "--out", tmp_path / "run", *(word for each in sizes for word in ("--set", each)))
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(NOTICE + "batches differ in size") == 1
    assert 0 < recorders[0].replays < 18 - recorded_steps.WARM_UP
    assert_same_run(plain, tmp_path / "run", 18)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (('losses=[{name="gan"}, {name="drawing", by="python"}]',), "numbers are drawn by Python or NumPy in a step"),
        (('losses=[{name="gan"}, {name="drawing", by="numpy"}]',), "numbers are drawn by Python or NumPy in a step"),
        ((L1, 'method={name="fading"}'), "method 'fading' of p2pkit-own 1.0 goes by update.progress"),
        ((L1, 'method={name="fading", how="moving"}'), "a network or an optimizer puts new tensors in the place of"),
        ((L1, 'method={name="counting"}'), "method 'counting' of p2pkit-own 1.0 has a state of its own"),
        (("train.accumulate=2",), "train.accumulate and train.activation_checkpointing seed what is drawn"),
        (("optimizer.name=lion",), "the program looks at gradients before each update"),
    ],
)
def test_what_the_program_has_a_hand_in_is_not_recorded(
    settings: tuple[str, ...], why: str, recipe: Path, plugins: Path, tmp_path: Path, p2pkit: Call,
    recorders: list[Rerun],
) -> None:  # fmt: skip
    if L1 in settings:
        recipe.write_text(recipe.read_text().replace('[discriminator]\nname = "patchgan_16"\nwidth = 4\n', ""))
    command = ["--plugins-dir", plugins, "run", recipe, "--set", "train.max_steps=6"]
    for each in settings:
        command += ["--set", each]
    outcome = p2pkit(*command, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(NOTICE) == 1 and NOTICE + why in outcome.err
    assert not any(each.replays for each in recorders)
    with one_operation_after_another():
        assert p2pkit(*command, "--out", tmp_path / "plain").code == 0
    assert_same_run(tmp_path / "plain", tmp_path / "run", 6)


def test_a_step_that_cannot_be_recorded_is_made_all_the_same(
    recipe: Path, tmp_path: Path, p2pkit: Call, recorders: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Rerun, work: Callable[[], Any]) -> None:
        torch.rand(5)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Rerun, "record", fail)
    settings = ("generator.dropout=0.5", "train.max_steps=6")
    with one_operation_after_another():
        plain = train(p2pkit, recipe, tmp_path / "plain", *settings)
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *(w for each in settings for w in ("--set", each)))
    assert outcome.code == 0, outcome.err
    assert NOTICE + "a step cannot be recorded (RuntimeError: operation not permitted" in outcome.err
    assert_same_run(plain, tmp_path / "run", 6)


def test_nothing_is_recorded_where_nobody_wants_it(
    recipe: Path, tmp_path: Path, p2pkit: Call, recorders: list[Rerun]
) -> None:
    outcome = p2pkit(
        "run", recipe, "--set", "train.max_steps=6", "--set", "train.cuda_graphs=false", "--out", tmp_path / "run"
    )
    assert outcome.code == 0 and NOTICE not in outcome.err
    assert not recorders
    recorded = train(p2pkit, recipe, tmp_path / "recorded", "train.max_steps=6")
    assert recorders[0].replays and lines(recorded) == lines(tmp_path / "run")
    assert_same_state(recorded, tmp_path / "run", 6)
