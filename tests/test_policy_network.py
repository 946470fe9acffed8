"""A generator as it translates: a twin that shares its weights, noise by place, graphs without a break."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

import p2pkit as library
from p2pkit.contracts import Policy
from p2pkit.export.noise import drawn_noise
from p2pkit.inference.policy import PolicyNetwork, infer
from p2pkit.networks.latent import Latent, SpatialNoise
from p2pkit.networks.layers import hold_spectral_norms
from tests.conftest import forget_accelerator, picture
from tests.small_components import small_parameters
from tests.test_tiles import translator

CHANNELS = {"source_channels": 3, "target_channels": 3}


class Layers(nn.Module):
    """All that follows the policy, a layer used twice, layers in a list of no module, and a method bound to one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.norm, self.drop, self.whole = nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Dropout2d(0.2)
        self.latent, self.noise = Latent(8), SpatialNoise(8)
        self.between = [self.norm, self.drop, self.norm, nn.ReLU()]
        self.end = self.whole.forward
        hold_spectral_norms(self)

    def forward(self, source: Tensor) -> Tensor:
        values = self.first(source) + self.latent(source)[:, :, None, None]
        for layer in self.between:
            values = layer(values)
        output: Tensor = self.last(self.end(values + self.noise(values))).tanh()
        return output


def images(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def layers() -> Layers:
    network = Layers()
    network(images(4, 3, 16, 16))  # so that running statistics are none of a layer that is new
    return network


@pytest.mark.parametrize("norm", ["sample", "batch", "running"])
def test_every_layer_follows_the_policy_and_the_generator_keeps_its_own(layers: Layers, norm: Any) -> None:
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    random = torch.get_rng_state()
    source = images(2, 3, 16, 24)
    noisy = [infer(layers, source, Policy(norm, True), seeds) for seeds in ([1, 2], [1, 2], [3, 2])]
    assert torch.equal(noisy[0], noisy[1]) and torch.equal(noisy[0][1], noisy[2][1]) == (norm != "batch")
    assert (noisy[0][0] - noisy[2][0]).abs().mean() > 0.01
    still = [infer(layers, source, Policy(norm, False), [seed, seed]) for seed in (1, 2)]
    assert torch.equal(*still)
    assert torch.equal(torch.get_rng_state(), random) and all(module.training for module in layers.modules())
    assert all(torch.equal(before[name], value) for name, value in layers.state_dict().items())
    layers.eval()
    layers.norm.training = norm != "running"
    assert torch.allclose(layers(source[:1]), still[0][:1], atol=1e-5) == (norm != "batch")


def test_the_twin_has_the_weights_that_training_gives_the_generator(layers: Layers) -> None:
    network, source = PolicyNetwork(layers, Policy("running", False)), images(1, 3, 8, 8)
    own = {parameter.data_ptr() for parameter in layers.parameters()}
    assert {parameter.data_ptr() for parameter in network.parameters()} == own
    before = network(source)
    with torch.no_grad():
        for value in layers.parameters():
            value.add_(0.1)  # in place, as optimizers and EMA do
    layers.norm.running_mean = torch.ones(8)
    layers.last.bias = nn.Parameter(torch.zeros(3))
    after = network(source)
    assert not torch.allclose(before, after, atol=1e-2) and torch.equal(after, layers.eval()(source))


def test_what_was_bound_to_the_generator_is_bound_to_its_twin() -> None:
    generator = library.create("generators", "unet", depth=3, width=4, **CHANNELS)
    source = images(1, 3, 16, 16)
    expected = infer(generator, source, Policy(), [1])
    generator.compile(backend="eager")  # a compiled call is one of the generator itself
    assert torch.equal(infer(generator, source, Policy(), [1]), expected)
    generator.decoders[0] = torch.compile(generator.decoders[0], backend="eager")
    assert (infer(generator, source, Policy("sample", False), [1]) - expected).abs().max() > 1e-3
    forget_accelerator()
    layers = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(0.5))
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(layers)
    forget_accelerator()
    same = [infer(prepared, source, Policy(), [1]) for _ in range(2)]
    assert torch.equal(*same) and (prepared(source) - same[0]).abs().max() > 0.01
    assert torch.equal(same[0], same[0].bfloat16().float())  # Accelerate's forward, in half precision


@pytest.mark.parametrize("norm", ["sample", pytest.param("batch", marks=pytest.mark.slow)])
def test_a_policy_network_compiles_without_a_break(norm: Any) -> None:
    generator, source = Layers(), images(2, 3, 8, 16)
    network = PolicyNetwork(generator, Policy(norm))
    network.seed([1, 2])
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        expected, noise = network(source), [one.values for one in drawn_noise(generator, source, [1, 2])]
        for given in ([], noise):
            assert torch.allclose(compiled(source, *given), expected, atol=1e-5)
            found = torch._dynamo.explain(network)(source, *given)
            assert (found.graph_count, found.graph_break_count) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", library.components("generators"))
def test_every_generator_compiles_without_a_break_in_any_size(name: str) -> None:
    generator = library.create("generators", name, **small_parameters(("generators", name)), **CHANNELS)
    network = PolicyNetwork(generator, Policy())
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for seed, size in enumerate([(32, 64), (64, 32)]):
            network.seed([seed, 5], [(-3, 5), (32, 64)])
            source = images(2, 3, *size)
            assert torch.allclose(compiled(source), network(source), atol=1e-4)


def test_spatial_noise_is_normal_in_training_and_zero_in_evaluation() -> None:
    noise, values = SpatialNoise(2), torch.zeros(3, 7, 50, 60, dtype=torch.float64)
    drawn = noise(values)
    assert drawn.shape == (3, 2, 50, 60) and drawn.dtype == torch.float64
    assert abs(drawn.mean()) < 0.05 and abs(drawn.std() - 1) < 0.05
    assert torch.equal(noise.eval()(values), torch.zeros_like(drawn))


class Grain(nn.Module):
    """Noise of places, alone and behind a halving."""

    size_multiple = smallest_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = SpatialNoise(3), SpatialNoise()
        self.strength = nn.Parameter(torch.full((3, 1, 1), 0.1))

    def forward(self, source: Tensor) -> Tensor:
        halved = nn.functional.avg_pool2d(source, 2)
        doubled = nn.functional.interpolate(halved + self.coarse(halved), scale_factor=2.0)
        return ((source + doubled + self.fine(source)) * self.strength).clamp(-1, 1)


def test_spatial_noise_is_that_of_the_image_alone_in_a_batch_and_in_tiles() -> None:
    generator, source = Grain(), images(3, 3, 64, 80)
    whole = infer(generator, source, Policy(), [1, 2, 3])
    for index in range(3):
        assert torch.equal(infer(generator, source[index : index + 1], Policy(), [index + 1])[0], whole[index])
    corners = [(0, 0), (32, 48), (6, 20)]
    tiles = torch.stack([source[0, :, row : row + 32, column : column + 32] for row, column in corners])
    for (row, column), tile in zip(corners, infer(generator, tiles, Policy(), [1, 1, 1], corners), strict=True):
        assert torch.equal(tile, whole[0, :, row : row + 32, column : column + 32])
    still = infer(generator, source, Policy(dropout=False), [1, 2, 3])
    drawn: Any = []
    infer(generator, source, Policy(), [1, 2, 3], drawn=drawn)
    assert [(one.kind, tuple(one.values.shape)) for one in drawn] == [
        ("spatial", (3, 1, 32, 40)), ("spatial", (3, 3, 64, 80)),
    ]  # fmt: skip
    for noise in (one.values for one in drawn):
        assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.05 and noise.abs().max() < 6
    assert (whole - still).abs().mean() > 0.05
    pixels, translate = picture(150, 130, 0), translator(generator)
    assert np.array_equal(translate(pixels, seed=3, tile=64, overlap=0), translate(pixels, seed=3))
