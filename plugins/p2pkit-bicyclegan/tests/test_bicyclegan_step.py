"""What a step of BicycleGAN lowers, and which of its networks each term reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as divergence_of_distributions

from p2pkit import Batch, WeightedLoss, create
from p2pkit.contracts import Terms
from p2pkit.errors import RecipeError
from p2pkit.training.step import AdaptedLoss
from p2pkit_bicyclegan.encoder import ResidualEncoder
from p2pkit_bicyclegan.generator import LatentUNet
from p2pkit_bicyclegan.method import BicycleGAN, kl_divergence

CHANNELS = {"source_channels": 1, "target_channels": 3}


class Noted:
    """Lowers nothing, and records the terms of each network with their graphs."""

    progress = 0.0

    def __init__(self) -> None:
        self.terms: dict[str, Terms] = {}

    def __call__(self, networks: str | Sequence[str], terms: Terms) -> None:
        self.terms[networks if isinstance(networks, str) else " and ".join(networks)] = terms


def made(**parameters: Any) -> BicycleGAN:
    """The method with small networks, whose weights are the same each time."""
    torch.manual_seed(0)

    def discriminator() -> nn.Module:
        network: nn.Module = create("discriminators", "patchgan_16", width=4, norm="instance", **CHANNELS)
        return network

    weights = {"lsgan": 1.0, "l1": 10.0}
    losses = [WeightedLoss(name, weight, AdaptedLoss.of(create("losses", name))) for name, weight in weights.items()]
    generator = LatentUNet(**CHANNELS, latent_size=5, depth=3, width=4)
    return BicycleGAN(
        generator, discriminator(), discriminator, losses, 3, encoder_width=4, encoder_blocks=2, **parameters
    )


def stepped(method: BicycleGAN) -> Mapping[str, Terms]:
    """The terms of a step on a batch of two that is the same each time."""
    torch.manual_seed(1)
    noted = Noted()
    method.train_step(Batch(torch.rand(2, 1, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1, ["a", "b"]), noted)
    return noted.terms


def reached(method: BicycleGAN, term: Tensor) -> set[str]:
    """The networks that get a gradient from ``term``."""
    found = set()
    for name in method.networks:
        parameters = list(getattr(method, name).parameters())
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        if any(gradient is not None and gradient.any() for gradient in gradients):
            found.add(name)
    return found


def test_terms_and_what_they_reach() -> None:
    method = made()
    terms = stepped(method)
    assert list(terms) == ["discriminator", "latent_discriminator", "generator and encoder"]
    assert [reached(method, terms[name]["lsgan"]) for name in method.networks[2:]] == [
        {"discriminator"}, {"latent_discriminator"},
    ]  # fmt: skip
    assert {name: reached(method, term) for name, term in terms["generator and encoder"].items()} == {
        "lsgan": {"generator", "encoder"},
        "l1": {"generator", "encoder"},
        "random_lsgan": {"generator"},
        "kl_divergence": {"encoder"},
        "latent_regression": {"generator"},
    }
    assert all(parameter.requires_grad for name in method.networks for parameter in getattr(method, name).parameters())


def test_weights_multiply_terms() -> None:
    plain, weighted = (
        stepped(made(**weights))["generator and encoder"] for weights in ({}, {"kl_weight": 0.03, "latent_weight": 2.0})
    )
    ratios = {name: float((weighted[name] / plain[name]).detach()) for name in plain}
    assert ratios == pytest.approx({"lsgan": 1, "l1": 1, "random_lsgan": 1, "kl_divergence": 3, "latent_regression": 4})
    without = stepped(made(kl_weight=0.0, latent_weight=0.0))["generator and encoder"]
    assert set(without) == {"lsgan", "l1", "random_lsgan"}


def test_the_divergence_is_that_of_the_distributions() -> None:
    mean, log_variance = torch.randn(3, 8), torch.randn(3, 8)
    expected = divergence_of_distributions(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1).mean()
    assert torch.allclose(kl_divergence(mean, log_variance), expected)
    assert kl_divergence(torch.zeros(2, 8), torch.zeros(2, 8)) == 0


@pytest.mark.parametrize("blocks", [3, 4])
def test_the_encoder_takes_any_size_from_its_smallest_on(blocks: int) -> None:
    encoder = ResidualEncoder(3, 8, 4, blocks)
    for height, width in ((encoder.smallest_size, encoder.smallest_size), (37, 100), (65, 64)):
        mean, log_variance = encoder(torch.rand(2, 3, height, width))
        assert mean.shape == log_variance.shape == (2, 8) and not torch.equal(mean[0], mean[1])
    with pytest.raises(RecipeError, match=rf"encoder_blocks: {blocks} blocks take images from {2 ** (blocks + 1)}"):
        encoder(torch.rand(1, 3, 100, encoder.smallest_size - 1))


@pytest.mark.parametrize("latent_at", ["all", "input"])
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_outputs_are_a_function_of_source_and_latent(latent_at: Any, upsampling: Any) -> None:
    network = LatentUNet(**CHANNELS, latent_at=latent_at, depth=4, width=4, upsampling=upsampling)
    source, latent = torch.rand(1, 1, 32, 16), torch.randn(2, 8)
    one, again, other = (network(source, latent[[index]]) for index in (0, 0, 1))
    assert one.shape == (1, 3, 32, 16) and torch.equal(one, again) and not torch.equal(one, other)
    assert not torch.equal(network(source), network(source))
    seen = [module.in_channels for module in network.encoders.modules() if isinstance(module, nn.Conv2d)]
    assert seen == ([9, 12, 16, 24] if latent_at == "all" else [9, 4, 8, 16])
