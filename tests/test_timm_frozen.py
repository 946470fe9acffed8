"""Frozen networks of timm: in the perceptual loss and in the projected discriminator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import p2pkit as library
from p2pkit.errors import RecipeError
from p2pkit.training.step import StepContext, frozen
from tests.conftest import SMALLEST

CHANNELS = {"source_channels": 3, "target_channels": 3}


def images(channels: int, *size: int, count: int = 2) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(channels)) * 2 - 1


# --- the loss


def perceptual(weights: Path, **parameters: Any) -> Any:
    given = {"target_channels": 3, "backbone": SMALLEST, "weights": str(weights), **parameters}
    return library.create("losses", "perceptual", **given)


def seen(target: Tensor, fake: Tensor) -> StepContext:
    return StepContext(target, target, fake, nn.Identity())


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_the_distance_is_the_weighted_one_of_timms_own_features(distance: Any, weights: Path) -> None:
    loss = perceptual(weights, layers=[2, 0], layer_weights=[0.5, 2.0], distance=distance)
    network: Any = timm.create_model(SMALLEST, features_only=True)
    network.load_state_dict(load_file(weights), strict=False)
    network.eval()
    mean, std = (torch.tensor(network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    target, fake = images(3, 64, 64), -images(3, 64, 64)
    of_target, of_fake = (network(((image + 1) / 2 - mean) / std) for image in (target, fake))
    power = 1 if distance == "l1" else 2
    expected = sum(weight * ((of_target[n] - of_fake[n]).abs() ** power).mean() for n, weight in ((2, 0.5), (0, 2.0)))
    assert loss.generator_loss(seen(target, fake)).item() == pytest.approx(expected.item(), rel=1e-4)
    assert loss.generator_loss(seen(target, target)).item() == 0


def test_the_loss_is_frozen_and_lets_gradients_through(weights: Path) -> None:
    loss = perceptual(weights).train()
    assert list(loss.parameters()) == [] and not any(module.training for module in loss.features.modules())
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    fake = images(3, 64, 64).requires_grad_()
    loss.generator_loss(seen(-fake.detach(), fake)).backward()
    assert fake.grad is not None and fake.grad.any()
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_grey_images_are_seen_as_grey_colours_and_other_counts_have_a_first_layer_of_their_own(weights: Path) -> None:
    grey, other = images(1, 64, 64), -images(1, 64, 64)
    of_grey = perceptual(weights, target_channels=1).generator_loss(seen(grey, other))
    of_colours = perceptual(weights).generator_loss(seen(grey.expand(-1, 3, -1, -1), other.expand(-1, 3, -1, -1)))
    assert of_grey.item() == pytest.approx(of_colours.item(), rel=1e-5)
    many = perceptual(weights, target_channels=5)
    assert many.generator_loss(seen(images(5, 64, 64), -images(5, 64, 64))) > 0


@pytest.mark.parametrize("wrong", [{"layers": [0, 0]}, {"layer_weights": [1.0]}, {"layers": []}, {"layers": [7]}])
def test_layers_that_cannot_be_are_refused(wrong: dict[str, Any], weights: Path) -> None:
    with pytest.raises(RecipeError, match=r"layer|out_indices"):
        perceptual(weights, **wrong)


# --- the discriminator


def projected(weights: Path, **parameters: Any) -> Any:
    torch.manual_seed(0)
    given = {"backbone": SMALLEST, "weights": str(weights), "width": 4, **CHANNELS, **parameters}
    return library.create("discriminators", "projected", **given)


@pytest.mark.parametrize("conditional", [True, False])
def test_every_judge_learns_and_the_frozen_network_does_not(conditional: bool, weights: Path) -> None:
    network = projected(weights, conditional=conditional, source_channels=2).train()
    source, image = images(2, 128, 160), images(3, 128, 160).requires_grad_()
    logits = network(source, image)
    assert [tuple(one.shape) for one in logits] == [(2, 1, 4, 5)] * 4
    sum(one.square().sum() for one in logits).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert not any(name.startswith(("features", "mixing")) for name, _ in network.named_parameters())
    assert not network.features.training
    assert image.grad is not None and image.grad.any()
    network.eval()
    of_others = network(-source, image)
    same = all(torch.equal(one, other) for one, other in zip(network(source, image), of_others, strict=True))
    assert same is not conditional


def test_it_can_be_held_still_and_its_mixing_is_drawn_from_the_seed(weights: Path) -> None:
    one, other = projected(weights), projected(weights)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert {f"mixing.across_{what}_0" for what in ("channels", "scales")} <= one.state_dict().keys()
    image = images(3, 64, 64).requires_grad_()
    with frozen(one):
        sum(logits.sum() for logits in one(images(3, 64, 64), image)).backward()
    assert image.grad is not None and all(value.grad is None for value in one.parameters())
    assert all(value.requires_grad for value in one.parameters())


@pytest.mark.parametrize("size", [(16, 16), (33, 70), (65, 48)])
def test_it_judges_images_of_any_size(size: tuple[int, int], weights: Path) -> None:
    logits = projected(weights)(images(3, *size), images(3, *size))
    assert len(logits) == 4 and {one.shape[2:] for one in logits} == {tuple(-(-side // 32) for side in size)}


def test_maps_of_the_images_own_size_are_judged_too() -> None:
    network = library.create(
        "discriminators", "projected", backbone="vgg11", pretrained=False, scales=9, width=2, **CHANNELS
    )
    assert len(network(images(3, 32, 32), images(3, 32, 32))) == 6
