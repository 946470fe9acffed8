"""Every registered component, by what its kind promises (the registry is the list), and what each is besides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

import p2pkit
from p2pkit.builtin.datasets.archives import ARCHIVES
from p2pkit.errors import RecipeError
from p2pkit.networks.receptive_field import receptive_field
from p2pkit.testing import check_component, components_of
from p2pkit.training.prepare import try_optimizer
from p2pkit.training.step import AdaptedLoss, StepContext, frozen
from tests.conftest import picture, save
from tests.segmenters import black_and_white
from tests.small_components import SMALL, Component, choices, small_parameters

CHANNELS = {"source_channels": 3, "target_channels": 3}
RECEPTIVE_FIELDS = {"patchgan_1": 1, "patchgan_16": 16, "patchgan_70": 70, "patchgan_286": 286}
COMPONENTS = components_of("p2pkit")
NETWORKS = [each for each in COMPONENTS if each[0] in ("generators", "discriminators")]
DATA_SETS = [each for each in COMPONENTS if each[0] == "datasets"]
# some of timm's need a GPU, a library or a graph of gradients, or keep a state that no checkpoint can hold
UNUSABLE = ("adahessian", "adafactorbv", "bnb", "cadafactorbv", "clamb", "fused", "kron", "lamb")
OPTIMIZERS = [each for each in COMPONENTS if each[0] == "optimizers"]
REFUSED = [each for each in OPTIMIZERS if each[1].startswith(UNUSABLE)]
OTHERS = [each for each in COMPONENTS if each not in NETWORKS + DATA_SETS + REFUSED]
CHOICES = [(each, choice) for each in NETWORKS for choice in choices(each)]


@pytest.mark.parametrize(("component", "choice"), CHOICES, ids=str)
def test_networks_keep_their_promises_whatever_is_chosen(component: Component, choice: Mapping[str, Any]) -> None:
    check_component(*component, **small_parameters(component, **choice))


@pytest.mark.parametrize("component", OTHERS, ids=str)
def test_components_keep_their_promises(
    component: Component, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(random_weights.parent.parent))
    # the network itself, on images a ninth as large as those that published numbers are of
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE", 99)
    segmenter = {"segmenter": black_and_white(tmp_path / "s.safetensors")} if component[1] == "fcn_score" else {}
    check_component(*component, **small_parameters(component, **segmenter))


def test_optimizers_that_cannot_be_used_here_are_refused_by_name() -> None:
    assert ("optimizers", "adamw") not in REFUSED and len(REFUSED) < len(OPTIMIZERS) / 3
    for _, name in REFUSED:
        with pytest.raises(
            RecipeError, match=rf"the one called {name} cannot be used here \(|'{name}' of p2pkit .* made with"
        ):
            try_optimizer(partial(p2pkit.create, "optimizers", name), f"the one called {name}")


@pytest.fixture
def roots(pairs: Path, tmp_path: Path) -> Mapping[str, Path]:
    """The folders of the data sets that are made of files."""
    folders = tmp_path / "folders"
    for split, count in (("train", 3), ("test", 2), ("val", 1)):
        for index in range(count):
            for side, channels in (("source", 1), ("target", 3)):
                save(folders / split / side / f"{index}.png", picture(12, 16, seed=index, channels=channels))
            stack = np.stack([picture(12, 16, seed=index + plane, channels=1)[:, :, 0] for plane in range(3)])
            for side in ("source", "target"):
                file = tmp_path / "stacks" / split / side / f"{index}.tif"
                file.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(file, stack, photometric="minisblack")
            save(
                tmp_path / "streets" / "leftImg8bit" / split / "ulm" / f"{index}_leftImg8bit.png",
                picture(32, 64, index),
            )
            labels = picture(32, 64, index, channels=4)
            save(tmp_path / "streets" / "gtFine" / split / "ulm" / f"{index}_gtFine_color.png", labels)
    archives = dict.fromkeys(("pix2pix_archive", *ARCHIVES), pairs)
    others = {"photos": pairs, "volume_slices": tmp_path / "stacks", "cityscapes": tmp_path / "streets"}
    files = {"side_by_side": pairs, "photos": pairs}
    return {**files, "paired_folders": folders, "unpaired_folders": folders, **archives, **others}


@pytest.mark.parametrize("component", DATA_SETS, ids=str)
def test_data_sets_keep_their_promises(component: Component, roots: Mapping[str, Path]) -> None:
    root = {"root": roots[component[1]]} if component[1] in roots else {}
    check_component(*component, **small_parameters(component, **root))


def test_a_component_without_the_parameters_that_it_needs_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SMALL, ("encodings", "one_hot"))
    with pytest.raises(AssertionError, match="needs classes: add it to SMALL"):
        small_parameters(("encodings", "one_hot"))


def small_generator(name: str, **more: Any) -> Any:
    return p2pkit.create("generators", name, **CHANNELS, **small_parameters(("generators", name), **more))


def millions(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def images(channels: int, *size: int) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(channels)) * 2 - 1


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_bottleneck_of_one_pixel_is_not_normalised_away(norm: str) -> None:
    generator = p2pkit.create("generators", "unet", depth=4, width=4, norm=norm, dropout=0.0, **CHANNELS)
    seen: list[Tensor] = []
    generator.encoders[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    generator(images(3, 16, 16)[:1])
    assert seen[0].shape[2:] == (1, 1)
    assert seen[0].any()


@pytest.mark.parametrize(("depth", "count"), [(8, 54.414), (7, 41.829)])
def test_the_unet_has_the_published_number_of_parameters(depth: int, count: float) -> None:
    with torch.device("meta"):
        generator = p2pkit.create("generators", "unet", depth=depth, **CHANNELS)
    assert round(millions(generator), 3) == count


def test_the_unet_reaches_one_pixel_from_256_and_drops_in_three_blocks() -> None:
    generator = p2pkit.create("generators", "unet", **CHANNELS)
    assert generator.size_multiple == 256
    assert [any(isinstance(layer, nn.Dropout) for layer in block) for block in generator.decoders] == [True] * 3 + [
        False
    ] * 5


def test_the_encoder_decoder_is_the_unet_without_skips() -> None:
    with pytest.raises(RecipeError, match="skips: unknown key"):
        p2pkit.create("generators", "encoder_decoder", skips=True, **CHANNELS)
    assert millions(small_generator("encoder_decoder")) < millions(small_generator("unet"))


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_the_unet_doubles_sizes_either_way(upsampling: str) -> None:
    assert small_generator("unet", upsampling=upsampling)(images(3, 16, 32)).shape == (2, 3, 16, 32)


@pytest.mark.parametrize(("name", "side"), RECEPTIVE_FIELDS.items())
def test_receptive_fields_by_gradient(name: str, side: int) -> None:
    discriminator = p2pkit.create("discriminators", name, width=2, **CHANNELS)
    assert receptive_field(discriminator, **CHANNELS) == side


def test_patchgan_70_is_the_published_one() -> None:
    discriminator = p2pkit.create("discriminators", "patchgan_70", **CHANNELS)
    assert round(millions(discriminator), 3) == 2.769
    assert discriminator(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)


@pytest.mark.parametrize("name", RECEPTIVE_FIELDS)
@pytest.mark.parametrize("conditional", [True, False])
def test_only_conditional_discriminators_look_at_the_source(name: str, conditional: bool) -> None:
    torch.manual_seed(0)
    discriminator = p2pkit.create("discriminators", name, width=4, conditional=conditional, norm="none", **CHANNELS)
    image = images(3, 128, 128)
    same = torch.equal(discriminator(images(3, 128, 128) * 0, image), discriminator(image, image))
    assert same is not conditional


class Fixed(nn.Module):
    """A discriminator that says of an image what its first pixel is."""

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return image[:, :1, :1, :1]


def step(real: float, fake: float) -> StepContext:
    full = torch.full((1, 1, 2, 2), 1.0)
    return StepContext(full, full * real, (full * fake).requires_grad_(), Fixed())


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        ("gan", 0.4741, (0.6931 + 0.9741) / 2),
        ("lsgan", 0.25, (1.0 + 0.25) / 2),
        ("hinge", -0.5, (1.0 + 1.5) / 2),
        ("l1", 0.5, None),
        ("l2", 0.25, None),
    ],
)
def test_values_of_losses(name: str, generator: float, discriminator: float | None) -> None:
    loss = AdaptedLoss.of(p2pkit.create("losses", name))
    # a real image judged 0, a fake judged 0.5
    seen = step(real=0.0, fake=0.5)
    of_generator = loss.generator_loss(seen)
    assert of_generator is not None and of_generator.item() == pytest.approx(generator, abs=1e-4)
    term = loss.discriminator_loss(seen)
    if discriminator is None or term is None:
        assert term is discriminator
    else:
        assert term.item() == pytest.approx(discriminator, abs=1e-4)


def test_a_frozen_network_passes_gradients_on_and_keeps_none() -> None:
    layer = nn.Linear(1, 1)
    value = torch.ones(1, 1, requires_grad=True)
    with frozen(layer):
        layer(value).sum().backward()
    assert value.grad is not None and layer.weight.grad is None
    assert layer.weight.requires_grad


def test_the_mean_absolute_error_is_a_fraction_of_the_full_range() -> None:
    metric = p2pkit.create("metrics", "mae")
    metric.update(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
    assert metric.compute() == 1.0


@pytest.mark.parametrize(
    "parameters", [{"depth": 1}, {"depth": "8"}, {"width": 0}, {"norm": "layer"}, {"dropout": 1.0}]
)
def test_parameters_out_of_bounds_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(parameters))):
        p2pkit.create("generators", "unet", **CHANNELS, **parameters)
