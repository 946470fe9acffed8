"""Every registered component, by what its kind promises; the registry is the list of what is tested."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import p2pkit
from p2pkit.contracts import Judgement
from p2pkit.errors import RecipeError
from p2pkit.inference import Policy, infer
from p2pkit.receptive_field import receptive_field
from p2pkit.training_step import StepView, frozen

CHANNELS = {"source_channels": 3, "target_channels": 3}
SMALL: dict[str, dict[str, Any]] = {"unet": {"depth": 4}, "encoder_decoder": {"depth": 4}, "resnet": {"blocks": 1}}
RECEPTIVE_FIELDS = {"patchgan_1": 1, "patchgan_16": 16, "patchgan_70": 70, "patchgan_286": 286}


def small_generator(name: str, **more: Any) -> Any:
    return p2pkit.create("generators", name, **{"width": 4, **CHANNELS, **SMALL.get(name, {}), **more})


def millions(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def images(channels: int, *size: int) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(channels)) * 2 - 1


@pytest.mark.parametrize("name", p2pkit.components("generators"))
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_generators_translate_within_range_and_every_parameter_learns(name: str, norm: str) -> None:
    generator = small_generator(name, source_channels=2, target_channels=5, norm=norm)
    output = generator(images(2, 32, 48))
    assert output.shape == (2, 5, 32, 48)
    assert output.abs().max() <= 1
    output.square().sum().backward()
    without = [key for key, value in generator.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


@pytest.mark.parametrize("name", p2pkit.components("generators"))
@pytest.mark.parametrize("size", [(1, 1), (7, 50), (33, 47)])
def test_generators_translate_any_size(name: str, size: tuple[int, int]) -> None:
    output = infer(small_generator(name), images(3, *size), Policy(), [0, 1])
    assert output.shape == (2, 3, *size)
    assert output.isfinite().all()


@pytest.mark.parametrize("name", p2pkit.components("generators"))
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_constant_source_still_gives_a_finite_output(name: str, norm: str) -> None:
    output = small_generator(name, norm=norm)(torch.zeros(1, 3, 16, 16))
    assert output.isfinite().all()


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


@pytest.mark.parametrize("name", p2pkit.components("discriminators"))
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_discriminators_give_logits_and_every_parameter_learns(name: str, norm: str) -> None:
    layers = {"layers": 2} if name == "patchgan" else {}
    discriminator = p2pkit.create(
        "discriminators", name, width=2, norm=norm, source_channels=2, target_channels=4, **layers
    )
    logits = discriminator(images(2, 128, 160), images(4, 128, 160))
    assert logits.shape[:2] == (2, 1) and logits.ndim == 4
    judgement = discriminator(images(2, 128, 160), images(4, 128, 160), features=True)
    assert isinstance(judgement, Judgement) and judgement.features
    logits.square().sum().backward()
    # instance norm takes out what it is shifted by, so biases before it are at rest
    assert all(value.grad is not None for value in discriminator.parameters())


@pytest.mark.parametrize("name", p2pkit.components("discriminators"))
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


def step(real: float, fake: float) -> StepView:
    full = torch.full((1, 1, 2, 2), 1.0)
    return StepView(full, full * real, (full * fake).requires_grad_(), Fixed())


# these have no term here: one for the generator, one without features, one of an image that is constant
OF_OTHER_STEPS = {"r1", "feature_matching", "total_variation"}


@pytest.mark.parametrize("name", sorted({*p2pkit.components("losses")} - OF_OTHER_STEPS))
def test_losses_give_scalars_that_the_generator_can_lower(name: str) -> None:
    loss = p2pkit.create("losses", name)
    seen = step(real=0.5, fake=-0.25)
    for term in (loss.generator_term(seen), loss.discriminator_term(seen)):
        assert term is None or (term.ndim == 0 and term.isfinite())
    term = loss.generator_term(seen)
    term.backward()
    assert seen.fake.grad is not None and seen.fake.grad.any()


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
    loss = p2pkit.create("losses", name)
    # a real image judged 0, a fake judged 0.5
    seen = step(real=0.0, fake=0.5)
    assert loss.generator_term(seen).item() == pytest.approx(generator, abs=1e-4)
    term = loss.discriminator_term(seen)
    if discriminator is None:
        assert term is None
    else:
        assert term.item() == pytest.approx(discriminator, abs=1e-4)


def test_a_frozen_network_passes_gradients_on_and_keeps_none() -> None:
    layer = nn.Linear(1, 1)
    value = torch.ones(1, 1, requires_grad=True)
    with frozen(layer):
        layer(value).sum().backward()
    assert value.grad is not None and layer.weight.grad is None
    assert layer.weight.requires_grad


@pytest.mark.parametrize("name", p2pkit.components("metrics"))
def test_metrics_are_perfect_on_targets_and_do_not_depend_on_batches(name: str) -> None:
    target, output = images(3, 8, 8), images(3, 8, 8) * 0.5
    whole, parts, perfect = (p2pkit.create("metrics", name) for _ in range(3))
    whole.add(output, target)
    for index in range(2):
        parts.add(output[index : index + 1], target[index : index + 1])
    perfect.add(target, target)
    assert whole.result() == pytest.approx(parts.result())
    for key, value in whole.result().items():
        better = perfect.result()[key]
        assert better > value if whole.higher_is_better else better < value


def test_the_mean_absolute_error_is_a_fraction_of_the_full_range() -> None:
    metric = p2pkit.create("metrics", "mae")
    metric.add(torch.full((1, 3, 2, 2), -1.0), torch.full((1, 3, 2, 2), 1.0))
    assert metric.result() == {"mae": 1.0}


@pytest.mark.parametrize(
    "parameters", [{"depth": 1}, {"depth": "8"}, {"width": 0}, {"norm": "layer"}, {"dropout": 1.0}]
)
def test_parameters_out_of_bounds_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(parameters))):
        p2pkit.create("generators", "unet", **CHANNELS, **parameters)
