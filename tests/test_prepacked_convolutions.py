"""Convolutions by weights that are arranged once give what torch's give, and follow the weights."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.networks import prepacked
from p2pkit.networks.encoding import Encoded
from p2pkit.networks.fast_convolutions import speed_up_convolutions
from tests.test_fast_convolutions import SHAPES


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def frozen(layer: nn.Module) -> nn.Module:
    """As it is in a model that translates."""
    with torch.inference_mode(False):
        found = copy.deepcopy(layer).requires_grad_(False)
    speed_up_convolutions(found, frozen=True)
    return found


def layer_of(kind: type[nn.Module], **options: object) -> nn.Module:
    with torch.inference_mode(False):
        return kind(**options)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of layers that took prepacked weights."""
    kinds: list[str] = []
    real = prepacked.convolve

    def convolve(layer: prepacked.Layer, images: Tensor) -> Tensor:
        kinds.append(type(layer).__name__)
        return real(layer, images)

    monkeypatch.setattr(prepacked, "convolve", convolve)
    return kinds


@pytest.mark.parametrize("channels", [(5, 7), (3, 64), (128, 64)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_torchs_at_any_size(shape: str, channels: tuple[int, int], taken: list[str]) -> None:
    kind, options = SHAPES[shape]
    plain = layer_of(kind, in_channels=channels[0], out_channels=channels[1], **{"bias": False, **options})
    packed = frozen(plain)
    assert isinstance(packed, kind) and list(packed.state_dict()) == list(plain.state_dict())
    sizes = [(1, 6, 5), (3, 9, 8), (1, 33, 40), (2, 5, 7), (1, 6, 5)]
    for count, height, width in sizes:
        images = torch.randn(count, channels[0], height, width)
        torch.testing.assert_close(packed(images), plain(images), rtol=1e-5, atol=1e-5)
        if "dilation" not in options:
            last = images.contiguous(memory_format=torch.channels_last)
            assert torch.equal(packed(last), packed(images)) and torch.equal(frozen(plain)(images), packed(images))
    assert len(taken) == (0 if "dilation" in options else 5 * len(sizes))


AT_THE_EDGE = {
    "a pixel wide": (nn.Conv2d(8, 8, 1, 2, 1, dilation=2), (1, 8, 8, 1)),
    "uneven strides": (nn.Conv2d(1, 3, 3, (1, 2), 1), (1, 1, 8, 2)),
    "padded behind": (nn.ConvTranspose2d(8, 8, 3, 1, dilation=2, output_padding=1), (1, 8, 4, 4)),
    "padded behind, few outputs": (nn.ConvTranspose2d(64, 2, 3, 1, dilation=2, output_padding=1), (1, 64, 4, 4)),
    "one pixel": (nn.ConvTranspose2d(8, 4, 4, 2, 1), (1, 8, 1, 1)),
    "one channel": (nn.Conv2d(1, 4, 4, 2, 1), (2, 1, 8, 6)),
}


@pytest.mark.parametrize("case", AT_THE_EDGE)
def test_values_are_torchs_at_the_edge(case: str) -> None:
    plain, shape = AT_THE_EDGE[case]
    packed = frozen(plain)
    for images in (torch.rand(shape), torch.rand(1, 1, 1, 1).expand(shape), torch.rand(*shape[:3], 3)[..., : shape[3]]):
        torch.testing.assert_close(packed(images), plain(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_bias_may_lie_anywhere_in_memory(kind: type[prepacked.Layer]) -> None:
    with torch.inference_mode(False):
        plain = kind(8, 16, 3)
        packed, strided = frozen(plain), torch.rand(16, 2)[:, 0]
        for layer in (plain, packed):
            layer.bias = nn.Parameter(strided, requires_grad=False)
    images = torch.rand(1, 8, 9, 9)
    torch.testing.assert_close(packed(images), plain(images), rtol=1e-5, atol=1e-5)


def test_they_are_arranged_for_the_last_three_sizes() -> None:
    layer = frozen(layer_of(nn.Conv2d, in_channels=8, out_channels=8, kernel_size=4))
    arranged: list[Tensor] = []
    for side in (9, 12, 16, 9, 12, 20, 9, 12, 16):
        layer(torch.rand(1, 8, side, side))
        (kept,) = [each for weight, each in prepacked._packed.items() if weight is layer.weight]
        assert len(kept) <= 3 and kept[0].arranged_for[-4][-1] == side
        arranged += [one.weights for one in kept if not any(one.weights is each for each in arranged)]
    assert len(arranged) == 5  # for 9, 12, 16, 20, and 16 again


def test_a_generator_takes_them_wherever_no_other_way_is_faster(taken: list[str]) -> None:
    with torch.inference_mode(False):
        plain = create("generators", "unet", source_channels=3, target_channels=3, depth=5, width=32).eval()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(frozen(plain)(images), plain(images), rtol=1e-5, atol=1e-5)
    assert len(taken) == 9  # of ten; of the last few channels come out


def test_changed_weights_are_arranged_again() -> None:
    layer = frozen(layer_of(nn.Conv2d, in_channels=8, out_channels=8, kernel_size=4))
    weight, images = layer.weight, torch.rand(1, 8, 9, 9)
    assert isinstance(weight, Tensor)
    for change in (
        lambda: weight.mul_(2),
        lambda: layer.load_state_dict({**layer.state_dict(), "weight": torch.rand(8, 8, 4, 4)}),
        lambda: setattr(weight, "data", torch.rand(8, 8, 4, 4)),
        lambda: setattr(layer, "weight", nn.Parameter(torch.rand(8, 8, 4, 4), requires_grad=False)),
        lambda: layer.half().float().weight.mul_(3),  # type: ignore[operator]
    ):
        before = layer(images)
        with torch.inference_mode(False):
            change()
        found, expected = layer(images), nn.functional.conv2d(images, layer.weight, layer.bias)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(found, before)


def test_layers_that_share_weights_in_memory_compute_their_own() -> None:
    with torch.inference_mode(False):
        plain = nn.Sequential(nn.Conv2d(8, 8, 4, 2, 1), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.Conv2d(8, 8, 4, 1, 1))
        for layer in plain[1:]:
            layer.weight = plain[0].weight
    packed, images = frozen(plain), torch.rand(1, 8, 8, 8)
    assert packed[0].weight is packed[2].weight  # type: ignore[index]
    torch.testing.assert_close(packed(images), plain(images), rtol=1e-5, atol=1e-5)


@torch.inference_mode(False)
def test_where_gradients_are_asked_for_they_are_torchs(taken: list[str]) -> None:
    plain = nn.Sequential(nn.Conv2d(4, 8, 4, 2, 1), nn.ConvTranspose2d(8, 4, 4, 2, 1)).requires_grad_(False)
    packed, images = frozen(plain), torch.rand(1, 4, 8, 8, requires_grad=True)
    slopes = [torch.autograd.grad(network(images).square().sum(), images)[0] for network in (packed, plain)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-5, atol=1e-5)
    packed.requires_grad_(True)
    packed(images).sum().backward()
    assert all(weight.grad is not None for weight in packed.parameters())
    with torch.no_grad():
        packed(images)  # weights that may change at every step
    assert not taken


class Flat(nn.Module):
    """Takes a view that is there of maps with channels first alone."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.view(len(maps), -1)


class Own(nn.Module):
    """A network of a plugin."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.layers(images)
        return maps


class OwnChannelsLast(Own):
    channels_last = True


def test_modules_from_elsewhere_get_maps_as_they_are_unless_they_say_so(taken: list[str]) -> None:
    with torch.inference_mode(False):
        conv = nn.Conv2d(4, 8, 4, 2, 1)
        networks = [kind(conv, *after) for kind in (Own, OwnChannelsLast) for after in ((), (Flat(),))]
    images = torch.rand(1, 4, 8, 8)
    for network in networks[:3]:
        torch.testing.assert_close(frozen(network)(images), network(images), rtol=1e-5, atol=1e-5)
        assert bool(taken) == isinstance(network, OwnChannelsLast)
    with pytest.raises(RuntimeError, match="view"):
        frozen(networks[3])(images)


@pytest.mark.parametrize("says", [False, True])
def test_an_encoding_is_not_asked(says: bool, taken: list[str]) -> None:
    with torch.inference_mode(False):
        kind = OwnChannelsLast if says else Own
        plain = Encoded(Own(nn.Conv2d(3, 4, 1), Flat(), nn.Unflatten(1, (4, 8, 8))), kind(nn.Conv2d(4, 8, 3)))
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(frozen(plain)(images), plain(images), rtol=1e-5, atol=1e-5)
    assert taken == (["_PrepackedConv2d"] if says else [])


@pytest.mark.filterwarnings("ignore")
def test_a_traced_network_takes_any_size() -> None:
    with torch.inference_mode(False):
        network = frozen(nn.Sequential(nn.Conv2d(4, 8, 4, 2, 1), nn.ConvTranspose2d(8, 4, 4, 2, 1)))
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.rand(1, 4, 8, 8))
    images = torch.rand(2, 4, 12, 16)
    torch.testing.assert_close(traced(images), network(images), rtol=1e-5, atol=1e-5)


def test_in_half_precision_the_plain_way_is_taken(taken: list[str]) -> None:
    layer, images = frozen(layer_of(nn.Conv2d, in_channels=4, out_channels=8, kernel_size=4)), torch.rand(1, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(images).dtype == torch.bfloat16
    assert layer.to(torch.bfloat16)(images.bfloat16()).dtype == torch.bfloat16
    assert not taken


def test_weights_made_in_inference_mode_take_the_plain_way(taken: list[str]) -> None:
    layer = nn.Conv2d(4, 8, 4).requires_grad_(False)
    speed_up_convolutions(layer, frozen=True)
    assert layer(torch.rand(1, 4, 8, 8)).shape == (1, 8, 5, 5) and not taken


def test_threads_share_them_and_they_go_with_the_weights() -> None:
    gc.collect()
    kept = len(prepacked._packed)
    layers, images = [frozen(layer_of(nn.Conv2d, in_channels=9, out_channels=9, kernel_size=4))], torch.rand(1, 9, 9, 9)
    expected = layers[0](images)

    @torch.inference_mode()
    def again(_: int) -> Tensor:
        found: Tensor = copy.deepcopy(layers[0], {id(weight): weight for weight in layers[0].parameters()})(images)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(found, expected) for found in pool.map(again, range(20)))
    assert len(prepacked._packed) == kept + 1
    layers.clear()
    gc.collect()
    assert len(prepacked._packed) == kept
