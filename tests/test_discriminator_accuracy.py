"""The discriminator's accuracy on real images and on outputs, which is logged beside its losses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.contracts import WeightedLoss
from p2pkit.training.metrics_log import short_losses
from p2pkit.training.step import AdaptedLoss, StepContext, discriminator_losses
from tests.conftest import Call, lines, train

REAL, FAKE = "discriminator/accuracy_real", "discriminator/accuracy_fake"


class Brightness(nn.Module):
    """Its logits are the pixels."""

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return image[:, :1]


def accuracy(loss: str, target: list[float], fake: list[float]) -> dict[str, float]:
    source, real, made = (torch.tensor(values).view(1, 1, 1, -1) for values in ([0.0] * 4, target, fake))
    step = StepContext(source, real, made, Brightness())
    losses = [WeightedLoss(loss, 1.0, AdaptedLoss.of(create("losses", loss)))]
    return {name: float(value) for name, value in discriminator_losses(losses, step).accuracy.items()}


@pytest.mark.parametrize(
    ("loss", "real", "fake"), [("gan", 0.75, 0.5), ("hinge", 0.75, 0.5), ("lsgan", 0.25, 0.75)], ids=str
)
def test_it_is_the_share_of_logits_on_the_right_side_of_what_the_loss_separates_by(
    loss: str, real: float, fake: float
) -> None:
    found = accuracy(loss, [0.2, 0.4, 0.9, -1.0], [-0.3, 0.0, 0.1, 0.8])
    assert found == {"accuracy_real": real, "accuracy_fake": fake}


def test_a_critic_has_none_and_a_loss_without_discriminator_neither() -> None:
    source = torch.zeros(1, 1, 2, 2)
    step = StepContext(source, source + 0.5, source, Brightness())
    l1 = WeightedLoss("l1", 1.0, AdaptedLoss.of(create("losses", "l1")))
    assert discriminator_losses([l1], step).accuracy == {}
    critic = WeightedLoss("wgan_gp", 1.0, AdaptedLoss.of(create("losses", "wgan_gp")))
    step = StepContext(source, source + 0.5, source.clone().requires_grad_(), Brightness())
    assert discriminator_losses([critic], step).accuracy == {}


def test_it_is_logged_and_not_counted_as_a_loss(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    of_train = [line for line in lines(run) if line["split"] == "train"]
    assert len(of_train) == 4 and all(0 <= line[name] <= 1 for line in of_train for name in (REAL, FAKE))
    losses = {"discriminator/gan": 0.7, REAL: 0.9, FAKE: 0.8, "generator/gan": 0.6, "generator/l1": 9.0}
    assert short_losses(losses) == ["D 0.70", "G 0.60", "L1 9.00"]


def test_parts_of_a_batch_have_the_accuracy_of_all_of_it(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    alike = ("generator.norm=none", "discriminator.norm=none", "generator.dropout=0", "train.max_steps=1")
    whole = train(p2pkit, recipe, tmp_path / "whole", *alike)
    parts = train(p2pkit, recipe, tmp_path / "parts", *alike, "train.accumulate=2")
    for name in (REAL, FAKE):
        assert lines(parts)[0][name] == pytest.approx(lines(whole)[0][name], abs=1e-6)
