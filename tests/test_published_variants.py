"""The paper's step, that of its Lua code and that of the PyTorch reference, against arithmetic written out by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

import p2pkit as library
from p2pkit.contracts import Batch, WeightedLoss
from p2pkit.settings import Limits, TrainSettings
from p2pkit.testing import check_component
from p2pkit.training.step import AdaptedLoss
from p2pkit.training.update import Updater
from tests.conftest import Call, train
from tests.test_many_processes import WITHOUT_STATISTICS, assert_same_weights, launch

PAPER: dict[str, Any] = {"activations": "updated", "halved": True, "order": "real_fake"}
LUA: dict[str, Any] = {"activations": "before_update", "halved": False, "order": "real_fake"}
REFERENCE: dict[str, Any] = {"activations": "updated", "halved": True, "order": "fake_real"}
RATE, BETAS, EPSILON, FAST, L1 = 2e-4, (0.5, 0.999), 1e-8, 0.05, 100.0
CHANNELS = {"source_channels": 3, "target_channels": 3}


def normalised(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values over their batch's standard deviation, without their mean, and one over that deviation."""
    mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), unbiased=False, keepdim=True)
    over = (variance + 1e-5).rsqrt()
    return (values - mean) * over, over


@dataclass
class ByHand:
    """A discriminator of three convolutions with batch norm on the second: C4-C8, then one logit a patch."""

    weights: list[Tensor]
    """Weight and bias of the first convolution, weight of the second, its norm's scale and shift, those of the last."""
    running: tuple[Tensor, Tensor] = field(default_factory=lambda: (torch.zeros(8), torch.ones(8)))

    def forward(self, source: Tensor, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and what the way back needs of the way there."""
        first, first_bias, second, scale, shift, last, last_bias = self.weights
        one = F.conv2d(torch.cat([source, image], 1), first, first_bias, 2, 1)
        two = F.conv2d(F.leaky_relu(one, 0.2), second, None, 1, 1)
        values = [two.mean((0, 2, 3)), two.var((0, 2, 3))]
        self.running = tuple((0.9 * old + 0.1 * new).detach() for old, new in zip(self.running, values, strict=True))  # type: ignore[assignment]
        centred, over = normalised(two)
        three = centred * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return F.conv2d(F.leaky_relu(three, 0.2), last, last_bias, 1, 1), [one, centred, over, three]

    def backward(self, passed: Sequence[Tensor], of_logits: Tensor) -> Tensor:
        """The gradient of the image: by the activations that are given and by the weights that it has now."""
        one, centred, over, three = passed
        first, _, second, scale, _, last, _ = self.weights
        of_three = F.conv_transpose2d(of_logits, last, None, 1, 1) * torch.where(three > 0, 1.0, 0.2)
        of_centred = of_three * scale.view(1, -1, 1, 1)
        along = centred * (of_centred * centred).mean((0, 2, 3), keepdim=True)
        of_two = over * (of_centred - of_centred.mean((0, 2, 3), keepdim=True) - along)
        of_one = F.conv_transpose2d(of_two, second, None, 1, 1) * torch.where(one > 0, 1.0, 0.2)
        return F.conv_transpose2d(of_one, first, None, 2, 1)[:, 3:]


def first_of_adam(weight: Tensor, slope: Tensor) -> Tensor:
    """A weight after Adam's first step: mean and mean square of gradients, without their bias, are the first's own."""
    return weight - RATE * slope / (slope.abs() + EPSILON)


def first_of_sgd(weight: Tensor, slope: Tensor) -> Tensor:
    return weight - FAST * slope


MOVES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[..., Optimizer]]] = {
    "adam": (first_of_adam, partial(torch.optim.Adam, lr=RATE, betas=BETAS, eps=EPSILON)),
    # Adam's first step shows little but the signs of gradients
    "sgd": (first_of_sgd, partial(torch.optim.SGD, lr=FAST)),
}


def step_by_hand(
    generator: nn.Module,
    discriminator: ByHand,
    batch: Batch,
    moved: Callable[[Tensor, Tensor], Tensor],
    activations: str,
    halved: bool,
    order: str,
) -> tuple[list[Tensor], dict[str, float]]:
    """One step by the rules of Isola et al. 2017, section 3.3, or of a variant; the generator's weights, all losses."""
    torch.manual_seed(7)
    fake = generator(batch.source)
    leaf, shown = fake.detach(), {}
    for image in order.split("_"):
        shown[image] = discriminator.forward(batch.source, batch.target if image == "real" else leaf)
    real = -F.logsigmoid(shown["real"][0]).mean()
    faked = -F.logsigmoid(-shown["fake"][0]).mean()
    lowered = (real + faked) / 2 if halved else real + faked
    old = ByHand([weight.detach() for weight in discriminator.weights])
    gradients = torch.autograd.grad(lowered, discriminator.weights)
    discriminator.weights = [moved(*pair).detach() for pair in zip(discriminator.weights, gradients, strict=True)]
    seeing = old if activations == "before_update" else discriminator
    logits, passed = seeing.forward(batch.source, leaf)
    of_logits = -torch.sigmoid(-logits) / logits.numel()  # of -log sigmoid
    of_fake = discriminator.backward(passed, of_logits) + L1 * (leaf - batch.target).sign() / leaf.numel()
    fake.backward(of_fake)
    updated = [moved(one, one.grad).detach() for one in generator.parameters() if one.grad is not None]
    losses = {
        "discriminator/gan": float(lowered.detach()),
        "generator/gan": float(-F.logsigmoid(logits).mean()),
        "generator/l1": float(L1 * (leaf - batch.target).abs().mean()),
    }
    return updated, losses


@pytest.mark.parametrize("variant", [PAPER, LUA, REFERENCE], ids=["paper", "lua", "reference"])
@pytest.mark.parametrize("optimizer", MOVES)
def test_a_step_is_the_one_written_out_by_hand(optimizer: str, variant: dict[str, Any]) -> None:
    moved, make = MOVES[optimizer]
    torch.manual_seed(1)
    generator = library.create("generators", "unet", depth=3, width=4, **CHANNELS).double()
    discriminator = library.create("discriminators", "patchgan_16", width=4, **CHANNELS).double()
    with torch.no_grad():  # at the paper's initial values hardly anything passes, and no mistake would show
        for parameter in (*generator.parameters(), *discriminator.parameters()):
            parameter.mul_(5) if parameter.ndim > 1 else parameter.add_(0.1)
    batch = Batch(*(torch.rand(2, 3, 3, 32, 32).double() * 2 - 1), ["a", "b", "c"])
    weights = [parameter.detach().clone().requires_grad_() for parameter in discriminator.parameters()]
    by_hand = ByHand(weights, (torch.zeros(8).double(), torch.ones(8).double()))
    expected, losses = step_by_hand(copy.deepcopy(generator), by_hand, batch, moved, **variant)

    loss = {name: variant[name] for name in ("halved", "order")}
    components = [("gan", 1.0, loss), ("l1", L1, {})]
    weighted = [
        WeightedLoss(name, weight, AdaptedLoss.of(library.create("losses", name, **given)))
        for name, weight, given in components
    ]
    method = library.create(
        "methods", "pix2pix", generator=generator, discriminator=discriminator, losses=weighted,
        activations=variant["activations"],
    )  # fmt: skip
    networks = {"generator": generator, "discriminator": discriminator}
    optimizers = {name: make(one.parameters()) for name, one in networks.items()}
    update = Updater(Accelerator(cpu=True), optimizers, dict.fromkeys(networks), lambda _: 1.0, 0, method)
    update.batch = batch
    torch.manual_seed(7)
    method.train_step(batch, update)

    terms = {name: float(value) for name, value in update.take_terms().items() if "/accuracy_" not in name}
    assert terms == pytest.approx(losses, rel=1e-6)
    for found, wanted in zip(generator.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)
    for found, wanted in zip(discriminator.parameters(), by_hand.weights, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)
    norm = discriminator.blocks[1][1]
    for found, wanted in zip((norm.running_mean, norm.running_var), by_hand.running, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def test_what_the_variants_choose_keeps_the_contracts() -> None:
    check_component("methods", "pix2pix", activations="before_update")
    for name in ("gan", "lsgan", "hinge"):
        check_component("losses", name, halved=False, order="fake_real")


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 400])
def test_the_schedule_is_the_references_in_every_epoch(steps_per_epoch: int) -> None:
    schedule = library.create("schedules", "linear_decay", per_epoch=True)
    limits = Limits.of(TrainSettings(epochs=200), steps_per_epoch)
    for epoch in range(200):
        expected = 1 - max(0, epoch + 1 - 100) / 101
        for step in {epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1}:
            assert schedule(limits.position(step, 0)) == pytest.approx(expected, abs=1e-12)
    assert schedule(limits.position(200 * steps_per_epoch, 0)) == 0


@pytest.mark.parametrize("name", ["pix2pix_lua", "pix2pix_reference"])
def test_the_recipes_train(name: str, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = (
        'data={name="procedural_facades",size=32,pairs=4,test_pairs=1}', "transform.load_size=36",
        "transform.crop_size=32", "generator.width=4", "discriminator.width=4", "discriminator.layers=1",
        "loader.workers=0", "train.max_steps=2", "train.epochs=2", "validation.max_images=1",
    )  # fmt: skip
    given = [part for each in small for part in ("--set", each)]
    given += ["--set", 'discriminator={name="patchgan",layers=1,width=4}']
    assert p2pkit("run", f"p2pkit:{name}", *given, "--out", "run", "--device", "cpu").code == 0


LUA_SETTINGS = (
    "method.activations=before_update", *WITHOUT_STATISTICS, "loader.batch_size=4", "optimizer.discriminator.lr=0.1",
)  # fmt: skip


@pytest.fixture
def whole(p2pkit: Call, recipe: Path, tmp_path: Path) -> Path:
    """A run of the Lua code's step, in one piece, whose discriminator moves far in each."""
    return train(p2pkit, recipe, tmp_path / "whole", *LUA_SETTINGS)


def test_activations_from_before_the_update_come_in_parts(
    whole: Path, p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    assert_same_weights(whole, train(p2pkit, recipe, tmp_path / "parts", *LUA_SETTINGS, "train.accumulate=2"))
    updated = train(p2pkit, recipe, tmp_path / "updated", *LUA_SETTINGS, "method.activations=updated")
    one, other = (load_file(run / "model.safetensors") for run in (whole, updated))
    assert max(float((one[key] - other[key]).abs().max()) for key in one) > 1e-4


@pytest.mark.slow
def test_activations_from_before_the_update_come_from_two_processes(whole: Path, recipe: Path, tmp_path: Path) -> None:
    arguments = [part for each in (*LUA_SETTINGS, "train.accumulate=2") for part in ("--set", each)]
    running = launch("run", recipe, "--out", tmp_path / "two", *arguments)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert_same_weights(whole, tmp_path / "two")


def test_weights_that_layers_copy_are_refused(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    for setting in ("discriminator.spectral_norm=true", "train.precision=bf16"):
        given = ("--set", "method.activations=before_update", "--set", setting, "--device", "cpu")
        refused = p2pkit("run", recipe, "--out", tmp_path / "run", *given)
        assert refused.code == 2 and 'method.activations = "before_update" needs' in refused.err
        assert not (tmp_path / "run").exists()
    # nothing asks the discriminator
    train(p2pkit, recipe, tmp_path / "l1", *LUA_SETTINGS, 'losses=[{name="l1"}]')


def test_dropout_in_blocks_that_are_not_there_is_refused(recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("check", recipe, "--set", "generator.dropout_blocks=[2,40]")
    assert outcome.code == 2 and "decoder blocks that may have dropout" in outcome.err
    assert "Traceback" not in outcome.err
