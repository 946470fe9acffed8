"""Generator and discriminator: what they are made of, and what they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import p2pkit
from p2pkit_hd.discriminator import HDMultiscale
from p2pkit_hd.generator import EnhancedTrunk, HDGlobal, HDLocal
from p2pkit_hd.pyramid import halved

SMALL: dict[str, int] = {"halvings": 2, "blocks": 1}


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("kind", "channels", "parameters"),
    [
        (HDGlobal, 36, 182_546_755),  # the 182.5 M of the paper: 35 classes and boundaries
        (HDGlobal, 3, 182_443_267),
        (HDLocal, 36, 182_857_059),
    ],
)
def test_published_sizes(kind: Any, channels: int, parameters: int) -> None:
    with torch.device("meta"):
        assert parameters_of(kind(channels, 3)) == parameters


def test_weights_begin_as_in_the_paper() -> None:
    network = HDGlobal(3, 3, width=32, **SMALL)
    weights = torch.cat([parameter.flatten() for parameter in network.parameters() if parameter.ndim == 4])
    biases = torch.cat([parameter for parameter in network.parameters() if parameter.ndim == 1])
    assert abs(float(weights.detach().mean())) < 1e-3 and float(weights.detach().std()) == pytest.approx(0.02, rel=0.01)
    assert not biases.any()


def test_each_enhancer_doubles_the_size_and_halves_the_width() -> None:
    network = HDLocal(3, 3, width=2, enhancers=2, enhancer_blocks=1, **SMALL)
    trunk = network.trunk
    assert isinstance(trunk, EnhancedTrunk) and isinstance(trunk.coarse, EnhancedTrunk)
    assert [trunk.settings.width, trunk.coarse.settings.width, trunk.coarse.coarse.settings.width] == [2, 4, 8]
    side = network.smallest_size
    assert (side, network.size_multiple) == (32, 16)
    assert network(torch.zeros(1, 3, side, 2 * side)).shape == (1, 3, side, 2 * side)
    inner = HDLocal(3, 3, width=4, enhancers=1, enhancer_blocks=1, **SMALL).trunk
    assert inner.settings == trunk.coarse.settings
    innermost = HDGlobal(3, 3, width=8, **SMALL).trunk
    assert innermost.settings == trunk.coarse.coarse.settings
    trunk.coarse.load_state_dict(inner.state_dict())
    trunk.coarse.coarse.load_state_dict(innermost.state_dict())


def test_an_enhancer_adds_the_full_size_to_the_coarse_features() -> None:
    torch.manual_seed(0)
    trunk = HDLocal(3, 3, width=2, enhancer_blocks=1, **SMALL).trunk
    assert isinstance(trunk, EnhancedTrunk)
    source = torch.rand(1, 3, 32, 32)
    seen: list[torch.Tensor] = []
    handles = [
        part.register_forward_hook(lambda _, given, out: seen.extend([*given, out]))
        for part in (trunk.down, trunk.coarse)
    ]
    trunk.up.register_forward_pre_hook(lambda _, given: seen.extend(given))
    trunk(source)
    full, detail, small, coarse, both = seen
    assert torch.equal(full, source) and torch.equal(small, halved(source)) and torch.equal(both, detail + coarse)
    assert handles


def test_discriminators_of_one_form_look_at_a_pyramid() -> None:
    torch.manual_seed(0)
    network = HDMultiscale(4, 3, scales=3, layers=2, width=4)
    sizes = {parameters_of(one) for one in network.scales}
    assert len(network.scales) == 3 and len(sizes) == 1
    source, image = torch.rand(1, 4, 64, 96), torch.rand(1, 3, 64, 96)
    output = network(source, image, features=True)
    assert len(output.logits) == 3 and len(output.features) == 3 * 3  # the logits are not features
    assert all(torch.equal(one, other) for one, other in zip(output.logits, network(source, image), strict=True))
    second = network.scales[1](halved(source), halved(image))
    assert torch.equal(output.logits[1], second)
    assert not torch.equal(second, network.scales[0](halved(source), halved(image)))


def test_the_edges_of_a_pyramid_are_no_darker() -> None:
    assert torch.allclose(halved(torch.ones(1, 1, 7, 8)), torch.ones(1, 1, 4, 4))


def in_the_authors_order(network: HDGlobal | HDLocal) -> dict[str, torch.Tensor]:
    """A state dict as the authors' code writes it: flat lists of layers, those that only compute counted too."""
    state = {}

    def put(place: str, convolution: nn.Module) -> None:
        state.update({f"{place}.{name}": tensor for name, tensor in convolution.state_dict().items()})

    def put_trunk(trunk: nn.Module, last: int) -> None:
        if isinstance(trunk, EnhancedTrunk):
            put_trunk(trunk.coarse, last - 1)
            (_, first, *_), (halving, *_) = trunk.down
            put(f"model{last}_1.1", first)  # padding, convolution, norm, ReLU
            put(f"model{last}_1.4", halving)
            place = put_list(f"model{last}_2", 0, trunk.up)
        else:
            put("model.1", trunk.layers[0][1])
            place = put_list("model", 4, trunk.layers[1:])
        end[0] = f"{'model' if last == 0 else f'model{last}_2'}.{place + 1}"

    def put_list(name: str, place: int, layers: Any) -> int:
        for layer in layers:
            if hasattr(layer, "layers"):  # a residual block is one: padding, convolution, norm, ReLU, and again
                put(f"{name}.{place}.conv_block.1", layer.layers[1])
                put(f"{name}.{place}.conv_block.5", layer.layers[5])
                place += 1
            else:
                put(f"{name}.{place}", layer[0])
                place += 3
        return place

    end = [""]
    put_trunk(network.trunk, getattr(network.trunk.settings, "enhancers", 0))
    put(end[0], network.output[1])
    return state


@pytest.mark.parametrize(
    ("name", "kind", "parameters"),
    [
        ("hd_global", HDGlobal, {"halvings": 3, "blocks": 2}),
        ("hd_local", HDLocal, {"halvings": 2, "blocks": 3, "enhancers": 1, "enhancer_blocks": 2}),
        ("hd_local", HDLocal, {"halvings": 2, "blocks": 1, "enhancers": 2, "enhancer_blocks": 1}),
    ],
)
def test_a_checkpoint_of_the_authors_becomes_a_model(
    name: str, kind: Any, parameters: dict[str, int], tmp_path: Path, plugins: Path
) -> None:
    network = kind(5, 3, width=4, **parameters)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.1)
    torch.save(in_the_authors_order(network), tmp_path / "latest_net_G.pth")
    imported = p2pkit.import_checkpoint(tmp_path / "latest_net_G.pth", tmp_path / "model.safetensors")
    assert imported.header.generator == name and imported.header.resize is None
    assert imported.header.parameters == {"width": 4, **parameters}
    source = torch.rand(1, 5, 64, 96) * 2 - 1
    with torch.no_grad():
        expected = network(source)
    assert (p2pkit.load_model(imported.model, "cpu").tensor(source) - expected).abs().max() < 1e-5
    p2pkit.export_checkpoint(imported.model, tmp_path / "again.pth")
    written = torch.load(tmp_path / "again.pth", weights_only=True)
    expected_state = in_the_authors_order(network)
    assert written.keys() == expected_state.keys()
    assert all(written[key].equal(tensor) for key, tensor in expected_state.items())
