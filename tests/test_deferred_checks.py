"""Losses and gradients that the device looks at: the same run, the same end, and no step that waits.

What a GPU does is switched on for the CPU here, where runs can be compared bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode

from p2pkit.contracts import Batch
from p2pkit.training import finite
from p2pkit.training.trainer import Trainer
from tests.conftest import Call, Outcome, distribution, lines, picture, save, train
from tests.test_many_processes import LAUNCH, start_program

BLACK = "3.png"
"""The file that the loss is spoilt by. With one pair a step it is in the fourth, with two in the second."""
SPOILT = '''
import p2pkit


@p2pkit.hookimpl
def register_losses(register):
    import torch

    class Spoilt:
        """Not finite where a source is black, in one of several ways."""

        def __init__(self, how: str) -> None:
            self.how = how

        def _spoil(self, term, step, image):
            if not bool((step.source < -0.99).flatten(1).all(dim=1).any()):
                return term
            if self.how == "gradient":
                return term + (image - image.detach()).square().sum().sqrt()
            return term + torch.nan if self.how == "constant" else term * torch.nan

        def generator_loss(self, step):
            term = (step.fake - step.target).square().mean()
            return term if self.how == "discriminator" else self._spoil(term, step, step.fake)

        def discriminator_loss(self, step):
            if self.how == "discriminator":
                return self._spoil(step.pred_real.logits[0].square().mean(), step, step.target)

    register("spoilt", Spoilt)


@p2pkit.hookimpl
def register_callbacks(register):
    class Stopping:
        """Wants the run to end, or fails, at a step."""

        def __init__(self, step: int, fails: bool = False) -> None:
            self.step, self.fails = step, fails

        def on_step_end(self, run):
            if run.step == self.step:
                if self.fails:
                    raise RuntimeError("the bell is broken")
                run.stop("it is time")

    register("stopping", Stopping)
'''
PROGRAM = """
import sys

from p2pkit.cli import main
from p2pkit.training import finite

finite.DEFERRED_ON = frozenset(sys.argv.pop(1).split(","))
main(sys.argv[1:])
"""
RARELY = ("train.log_every=100", "train.sample_every=100", "train.checkpoint_every=100", "train.max_steps=7")
"""So that the end is the first to look behind the first step."""
ACCUMULATED = ("loader.batch_size=2", "train.accumulate=2")
ADAPTIVE = (
    'discriminator_augmentation={policy=["colour"], adaptive_target=0.6, adaptive_images=20}',
    "discriminator.spectral_norm=true",
)


@contextmanager
def deferred() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finite, "DEFERRED_ON", frozenset({"cpu"}))
        yield


@pytest.fixture
def plugins(tmp_path: Path, pairs: Path) -> Path:
    """A folder with a distribution that has the loss, beside data with a black source."""
    folder = distribution(tmp_path / "plugins", "p2pkit-spoilt", "1.0", {"spoilt": "p2pkit_spoilt"})
    (folder / "p2pkit_spoilt.py").write_text(SPOILT)
    save(pairs / "train" / BLACK, picture(24, 48, 1) * 0)
    return folder


def words(how: str, *settings: str) -> list[str]:
    losses = f'losses=[{{name="gan"}}, {{name="spoilt", how="{how}"}}]'
    return [word for each in (losses, "loader.batch_size=1", *RARELY, *settings) for word in ("--set", each)]


def left_in(run: Path) -> dict[str, object]:
    """What a run has left of the step that was not finite, by file and name, but for which run it was."""
    (folder,) = (run / "not_finite").iterdir()
    found: dict[str, object] = {}
    for file in sorted(folder.iterdir()):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safetensors' own
                found[f"{folder.name} {file.name} {name}"] = tensors.get_tensor(name).numpy().tobytes()
            said = json.loads((tensors.metadata() or {}).get("left", "{}"))
        said.get("run", {}).pop("id", None)
        found[f"{folder.name} {file.name}"] = said
    return found


def assert_alike(one: tuple[Outcome, Path], other: tuple[Outcome, Path]) -> None:
    """Two runs have ended by the same message, and have left the same files."""
    messages = []
    for outcome, run in (one, other):
        assert outcome.code == 2 and "is not " in outcome.err and "are kept; to see" in outcome.err, outcome.err
        messages.append(outcome.err[outcome.err.index("Error: ") :].replace(str(run), "RUN"))
    assert messages[0] == messages[1]
    assert left_in(one[1]) == left_in(other[1])
    assert {file.name for file in one[1].rglob("*")} == {file.name for file in other[1].rglob("*")}


@pytest.mark.parametrize(
    ("how", "settings"),
    [
        ("loss", ()),
        ("gradient", ()),
        ("constant", ()),
        ("discriminator", ()),
        ("loss", ("train.log_every=3", "train.checkpoint_every=3")),
        ("gradient", ("train.log_every=5", "optimizer.clip_gradient_norm=0.5")),
        ("gradient", ("train.ema_decay=0.9",)),
        ("discriminator", ("train.ema_decay=0.9", *ADAPTIVE)),
        ("gradient", ACCUMULATED),
        ("loss", (*ACCUMULATED, "optimizer.name=sgd")),
        ("loss", ('callbacks=[{name="stopping", step=5}]',)),
        ("gradient", ('callbacks=[{name="stopping", step=5, fails=true}]',)),
    ],
)
def test_a_step_that_is_not_finite_ends_both_ways_alike(
    how: str, settings: tuple[str, ...], recipe: Path, plugins: Path, tmp_path: Path, p2pkit: Call
) -> None:
    command = ("--plugins-dir", plugins, "run", recipe, *words(how, *settings), "--out")
    at_once = p2pkit(*command, tmp_path / "at_once")
    with deferred():
        later = p2pkit(*command, tmp_path / "later")
    assert_alike((at_once, tmp_path / "at_once"), (later, tmp_path / "later"))
    assert f"Error: step {2 if 'loader.batch_size=2' in settings else 4}: " in at_once.err


def test_bad_data_behind_a_step_that_is_not_finite(
    recipe: Path, pairs: Path, plugins: Path, tmp_path: Path, p2pkit: Call
) -> None:
    command = ("--plugins-dir", plugins, "run", recipe, *words("loss"), "--out")
    at_once = p2pkit(*command, tmp_path / "at_once")
    with deferred():
        whole = Trainer._train_step

        def removing(self: Trainer, batch: Batch) -> None:
            whole(self, batch)
            if self.state.step == 3:
                for file in (pairs / "train").iterdir():
                    if file.name != BLACK:
                        file.write_bytes(b"torn")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_train_step", removing)
            later = p2pkit(*command, tmp_path / "later")
    assert_alike((at_once, tmp_path / "at_once"), (later, tmp_path / "later"))


@pytest.mark.parametrize(
    "settings",
    [
        ("train.ema_decay=0.9", "optimizer.clip_gradient_norm=0.5"),
        (*ADAPTIVE, "optimizer.name=adamw"),
        ("optimizer.name=sgd", "loader.batch_size=2", "train.accumulate=2"),
        ("optimizer.name=lion",),
    ],
)
def test_a_run_that_is_finite_is_the_same_both_ways(
    settings: tuple[str, ...], recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    at_once = train(p2pkit, recipe, tmp_path / "at_once", *settings)
    with deferred():
        later = train(p2pkit, recipe, tmp_path / "later", *settings, "train.max_steps=2")
        assert p2pkit("run", "--resume", later, "--set", "train.max_steps=4").code == 0
    assert (at_once / "checkpoints/step_00000004/networks.safetensors").read_bytes() == (
        later / "checkpoints/step_00000004/networks.safetensors"
    ).read_bytes()
    assert (at_once / "checkpoints/step_00000004/optimizers.safetensors").read_bytes() == (
        later / "checkpoints/step_00000004/optimizers.safetensors"
    ).read_bytes()
    losses = [[line for line in lines(run) if line["split"] == "train"] for run in (at_once, later)]
    assert losses[0] == losses[1]


class Waits(TorchDispatchMode):
    """Notes the operations that a device would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique"):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "extra", [(), ADAPTIVE, ("train.ema_decay=0.9", "optimizer.clip_gradient_norm=0.5"), ACCUMULATED]
)
def test_no_step_waits_for_the_device(
    extra: tuple[str, ...], recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, step, looks = Waits(), Trainer._train_step, []
    look = finite.DeferredChecks.first_not_finite

    def watched(self: Trainer, batch: Batch) -> None:
        with waits if self.state.step else Waits():  # what happens once may wait
            step(self, batch)

    def noted(self: finite.DeferredChecks) -> object:
        looks.append(len(self))
        return look(self)

    monkeypatch.setattr(Trainer, "_train_step", watched)
    monkeypatch.setattr(finite.DeferredChecks, "first_not_finite", noted)
    settings = (
        "train.log_every=3",
        "train.sample_every=100",
        "train.checkpoint_every=100",
        "train.max_steps=7",
        *extra,
    )
    with deferred():
        train(p2pkit, recipe, tmp_path / "run", *settings)
    assert waits.found == []
    assert [count for count in looks if count] == [2, 4, 6, 2]  # after the first step, at two lines, at the end
    waits.found.clear()
    train(p2pkit, recipe, tmp_path / "at_once", *settings)
    assert waits.found, "nothing is found where there is something to find"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["loss", "constant", "gradient"])
def test_two_processes_end_both_ways_alike(how: str, recipe: Path, plugins: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ended = []
    for devices in ("cuda", "cpu"):
        command = ("--plugins-dir", plugins, "run", recipe, *words(how, "loader.batch_size=2"), "--device", "cpu")
        started = [*LAUNCH, "--nproc_per_node", "2", program, devices, *command, "--out", tmp_path / devices]
        running = start_program(list(map(str, started)), {})
        _, errors = running.communicate(timeout=120)
        ended.append((running.returncode, errors))
    assert all(code for code, _ in ended)
    said = [set(re.findall(r"step \d+: .*", errors)) for _, errors in ended]
    assert said[0] == said[1] and len(said[0]) == 2
    assert left_in(tmp_path / "cuda") == left_in(tmp_path / "cpu")
