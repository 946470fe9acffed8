"""Convolutions of small maps as products of matrices give what torch's give."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from p2pkit.networks.layers import MOST_POSITIONS, multiply_small_maps

SHAPES = {
    "4x4, halved": (nn.Conv2d, {"kernel_size": 4, "stride": 2, "padding": 1}),
    "3x3, with a bias": (nn.Conv2d, {"kernel_size": 3, "padding": 1, "bias": True}),
    "uneven": (nn.Conv2d, {"kernel_size": (3, 5), "stride": (1, 2), "padding": (0, 2), "dilation": (2, 1)}),
    "4x4, doubled": (nn.ConvTranspose2d, {"kernel_size": 4, "stride": 2, "padding": 1}),
    "doubled, with a bias": (
        nn.ConvTranspose2d,
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "bias": True},
    ),
    "stretched": (nn.ConvTranspose2d, {"kernel_size": (3, 2), "stride": (2, 3), "dilation": (1, 2), "padding": (1, 0)}),
}


def after_a_step(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Output, gradient of the images, and gradients of the weights."""
    images = images.detach().requires_grad_()
    output = network(images)
    (output**2).sum().backward()
    assert images.grad is not None
    return [output.detach(), images.grad, *(weight.grad for weight in network.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 3])
def test_values_and_gradients_are_torchs(shape: str, count: int) -> None:
    torch.manual_seed(0)
    kind, options = SHAPES[shape]
    plain = kind(256, 128, **{"bias": False, **options}).double()
    multiplied = copy.deepcopy(plain)
    multiply_small_maps(multiplied)
    assert type(multiplied) is not kind
    assert isinstance(multiplied, kind)
    assert list(multiplied.state_dict()) == list(plain.state_dict())
    images = torch.rand(count, 256, 6, 5, dtype=torch.float64)
    for found, expected in zip(after_a_step(multiplied, images), after_a_step(plain, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_they_are_multiplied_where_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(128, 128, 4, 2, 1), nn.ConvTranspose2d(128, 128, 4, 2, 1))
    multiply_small_maps(network)
    called = list[str]()
    for kind in (nn.Conv2d, nn.ConvTranspose2d):
        plain = kind.forward
        monkeypatch.setattr(
            kind, "forward", lambda *given, plain=plain, name=kind.__name__: called.append(name) or plain(*given)
        )
    side = 2 * int(MOST_POSITIONS**0.5)
    network(torch.rand(1, 128, side, side))
    assert called == []
    network(torch.rand(1, 128, side, side + 2))
    network(torch.rand(2, 128, side, side))
    assert called == 2 * ["Conv2d", "ConvTranspose2d"]


@pytest.mark.parametrize("images", [torch.rand(1, 127, 8, 8), torch.rand(1, 128, 1, 1), torch.rand(128)])
def test_what_does_not_fit_is_refused_in_torchs_words(images: Tensor) -> None:
    plain = nn.Conv2d(128, 128, 4, 2, 0)
    multiplied = copy.deepcopy(plain)
    multiply_small_maps(multiplied)
    with pytest.raises(RuntimeError) as expected:
        plain(images)
    with pytest.raises(RuntimeError) as found:
        multiplied(images)
    assert str(found.value) == str(expected.value)


def test_others_stay_as_they_are() -> None:
    class Own(nn.Conv2d):
        pass

    others = [
        nn.Conv2d(512, 512, 4, 2, 1, groups=2), nn.Conv2d(512, 512, 3, padding="same"), nn.Conv2d(8, 8, 4, 2, 1),
        nn.Conv2d(512, 512, 3, padding=1, padding_mode="reflect"), Own(512, 512, 4), nn.Conv1d(512, 512, 4),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(128, 128, 4)),
    ]  # fmt: skip
    kinds = list(map(type, others))
    multiply_small_maps(nn.Sequential(*others))
    assert list(map(type, others)) == kinds


def test_gradients_of_gradients() -> None:
    layer = nn.Conv2d(128, 128, 4, 2, 1, bias=False).double()
    expected = copy.deepcopy(layer)
    multiply_small_maps(layer)
    images = torch.rand(1, 128, 4, 4, dtype=torch.float64, requires_grad=True)
    for each in (layer, expected):
        (slope,) = torch.autograd.grad((each(images) ** 2).sum(), images, create_graph=True)
        (slope**2).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, expected.weight.grad)
