"""Convolutions as products of matrices and by Winograd's way give what torch's give."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from p2pkit.components.catalogue import create
from p2pkit.networks import winograd
from p2pkit.networks.fast_convolutions import MOST_POSITIONS, speed_up_convolutions
from tests.conftest import Call, train

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
    speed_up_convolutions(multiplied)
    assert type(multiplied) is not kind
    assert isinstance(multiplied, kind)
    assert list(multiplied.state_dict()) == list(plain.state_dict())
    images = torch.rand(count, 256, 6, 5, dtype=torch.float64)
    for found, expected in zip(after_a_step(multiplied, images), after_a_step(plain, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


OF_FEW_OUTPUTS = {
    "4x4": nn.Conv2d(64, 1, 4, 1, 1),
    "uneven": nn.Conv2d(64, 3, (2, 5), 1, (0, 3)),
    "without a bias": nn.Conv2d(64, 3, 3, bias=False),
    "doubled": nn.ConvTranspose2d(64, 3, 4, 2, 1),
    "stretched": nn.ConvTranspose2d(64, 2, (3, 2), (2, 3), (1, 0), dilation=(1, 2), bias=False),
}


@pytest.mark.parametrize("shape", OF_FEW_OUTPUTS)
@pytest.mark.parametrize("count", [1, 3])
def test_few_outputs_are_torchs(shape: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    plain = copy.deepcopy(OF_FEW_OUTPUTS[shape]).double()
    spread = copy.deepcopy(plain)
    speed_up_convolutions(spread)
    images = torch.rand(count, 64, 17, 15, dtype=torch.float64)
    expected = after_a_step(plain, images)
    monkeypatch.setattr(type(plain), "forward", lambda *_: pytest.fail("torch's own was called"))
    for found, wanted in zip(after_a_step(spread, images), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_they_are_multiplied_where_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(128, 128, 4, 2, 1), nn.ConvTranspose2d(128, 128, 4, 2, 1))
    speed_up_convolutions(network)
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
    speed_up_convolutions(multiplied)
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
        nn.Conv2d(64, 1, 4, 2), nn.Conv2d(64, 1, 3, padding=3), nn.Conv2d(64, 1, 1), nn.Conv2d(15, 1, 4),
        nn.Conv2d(512, 512, 3, padding=1, padding_mode="reflect"), Own(512, 512, 4), nn.Conv1d(512, 512, 4),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(128, 128, 4)),
    ]  # fmt: skip
    kinds = list(map(type, others))
    speed_up_convolutions(nn.Sequential(*others))
    assert list(map(type, others)) == kinds


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_graph_of_them_takes_any_size(kind: type[nn.Conv2d | nn.ConvTranspose2d]) -> None:
    layer = kind(128, 128, 4, 2, 1).requires_grad_(False)
    speed_up_convolutions(layer)
    sizes = {axis: Dim(f"side{axis}", min=1 if axis == 0 else 4, max=64) for axis in (0, 2, 3)}
    program = torch.export.export(layer, (torch.rand(2, 128, 4, 6),), dynamic_shapes=(sizes,)).module()
    for images in (torch.rand(1, 128, 4, 4), torch.rand(3, 128, 20, 18)):
        torch.testing.assert_close(program(images), layer(images), rtol=1e-5, atol=1e-5)


def test_gradients_of_gradients() -> None:
    layer = nn.Conv2d(128, 128, 4, 2, 1, bias=False).double()
    expected = copy.deepcopy(layer)
    speed_up_convolutions(layer)
    images = torch.rand(1, 128, 4, 4, dtype=torch.float64, requires_grad=True)
    for each in (layer, expected):
        (slope,) = torch.autograd.grad((each(images) ** 2).sum(), images, create_graph=True)
        (slope**2).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, expected.weight.grad)


OF_STRIDE_1 = {
    "4x4": {"kernel_size": 4, "padding": 1},
    "4x4, with a bias, padded by more": {"kernel_size": 4, "padding": 3, "bias": True},
    "3x3": {"kernel_size": 3, "padding": 1},
    "3x3, not padded": {"kernel_size": 3},
}


def rounding(found: Tensor, expected: Tensor) -> float:
    """How far it is off, in standard deviations of what is expected."""
    return float(((found - expected).square().mean().sqrt() / expected.std()).detach())


@pytest.mark.parametrize("most_tiles", [winograd.MOST_TILES, 20, 1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", OF_STRIDE_1)
def test_winograds_values_and_gradients_are_torchs(
    shape: str, layout: torch.memory_format, most_tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "MOST_TILES", most_tiles)
    layer = nn.Conv2d(128, 160, **{"bias": False, **OF_STRIDE_1[shape]})  # type: ignore[arg-type]
    plain = copy.deepcopy(layer).double()
    speed_up_convolutions(layer)
    images = torch.randn(3, 128, 13, 18).to(memory_format=layout)
    found, expected = after_a_step(layer, images), after_a_step(plain, images.double())
    assert len(found) == len(expected) > 2
    assert found[0].is_contiguous(memory_format=layout)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert rounding(mine, theirs) < 5e-6


def test_winograds_way_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    called = list[int]()
    convolve = winograd.convolve

    def counted(images: Tensor, weight: Tensor, padding: int) -> Tensor:
        called.append(weight.shape[2])
        return convolve(images, weight, padding)

    monkeypatch.setattr(winograd, "convolve", counted)
    maps = torch.randn(1, 128, 16, 16)
    for kernel in (3, 4):
        network = nn.Sequential(nn.Conv2d(128, 128, kernel, 1, 1))
        speed_up_convolutions(network)
        network(maps)
        network(maps[..., :8, :8])
        with torch.autocast("cpu", torch.bfloat16):
            network(maps)
        network.double()(maps.double())
    assert called == [3, 4]
    for options in ((64, 3, 1, 1), (128, 4, 2, 1), (128, 3, 1, 2, 2), (128, (3, 4)), (128, 5), (128, 4, 1, (1, 2))):
        network = nn.Sequential(nn.Conv2d(128, *options))  # type: ignore[arg-type]
        speed_up_convolutions(network)
        network(maps)
    assert called == [3, 4]


def test_winograds_gradients_of_gradients() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(128, 128, 4, 1, 1, bias=False)
    expected = copy.deepcopy(layer).double()
    speed_up_convolutions(layer)
    for each, images in ((layer, torch.randn(1, 128, 12, 12)), (expected, torch.randn(1, 128, 12, 12).double())):
        torch.manual_seed(1)
        images = torch.randn(images.shape).to(images.dtype).requires_grad_()
        (slope,) = torch.autograd.grad((each(images) ** 2).sum(), images, create_graph=True)
        (slope**2).sum().backward()
    assert layer.weight.grad is not None and expected.weight.grad is not None
    assert rounding(layer.weight.grad, expected.weight.grad) < 5e-6


def test_winograds_way_in_inference_mode_and_in_threads() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(128, 256, 3, 1, 1)
    plain = copy.deepcopy(layer)
    speed_up_convolutions(layer)
    maps = [torch.randn(1, 128, 20 + index, 21) for index in range(4)]
    winograd._matrices.cache_clear()
    with torch.inference_mode():
        layer(torch.randn(2, 128, 40, 40))
    layer(maps[0]).sum().backward()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(layer, maps * 8))
    for mine, images in zip(found, maps * 8, strict=True):
        assert rounding(mine, plain(images)) < 5e-6


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize(
    ("kind", "name", "options", "size"),
    [
        ("generators", "unet", {"depth": 6, "width": 32, "dropout": 0.0}, 64),
        ("generators", "resnet", {"width": 32, "blocks": 1, "dropout": 0.0}, 32),
        ("discriminators", "patchgan_70", {"width": 32}, 96),
        ("discriminators", "patchgan_16", {"width": 128}, 48),
    ],
)
def test_slopes_of_whole_networks(
    kind: str, name: str, options: dict[str, Any], size: int, norm: str, count: int
) -> None:
    torch.manual_seed(0)
    network = create(kind, name, source_channels=3, target_channels=3, norm=norm, **options)
    plain = copy.deepcopy(network).double()
    speed_up_convolutions(network)
    images = [torch.randn(count, 3, size, size) for _ in range(1 if kind == "generators" else 2)]
    outputs = network(*images), plain(*(image.double() for image in images))
    assert rounding(*outputs) < 1e-5
    for output in outputs:
        (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)).sum().backward()
    pairs = zip(network.parameters(), plain.parameters(), strict=True)
    slopes = [(mine.grad, theirs.grad) for mine, theirs in pairs if mine.ndim > 1]  # a bias before a norm has none
    assert len(slopes) >= 3
    for found, expected in slopes:
        assert found is not None and expected is not None
        # an activation whose input is all but 0 may take the other slope
        assert float((found - expected).norm() / expected.norm()) < 0.01


def test_losses_over_20_steps_are_those_of_plain_convolutions(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (
        "transform.load_size=96", "transform.crop_size=96", "loader.batch_size=1", "train.max_steps=20",
        "train.sample_every=20", "train.checkpoint_every=20", "generator={depth=5, width=16}",
        'discriminator={name="patchgan_70", width=64}', 'optimizer={name="sgd", lr=1e-4}',
    )  # fmt: skip
    losses = []  # at a low rate: an activation whose input is all but 0 takes the other slope sooner or later
    for run in ("fast", "plain"):
        lines = (train(p2pkit, recipe, tmp_path / run, *settings) / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line) for line in lines]
        losses.append([[value for key, value in step.items() if "/" in key and "lr" not in key] for step in steps])
        monkeypatch.setattr("p2pkit.training.prepare.speed_up_convolutions", lambda network: None)
    assert len(losses[0]) >= 20
    assert losses[0] != losses[1]
    for fast, plain in zip(*losses, strict=True):
        assert fast == pytest.approx(plain, rel=1e-3)
