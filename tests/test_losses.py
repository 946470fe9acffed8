"""Losses by their values, against closed forms and other implementations' arithmetic, and by their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import p2pkit
from p2pkit.contracts import DiscriminatorOutput
from p2pkit.errors import RecipeError
from p2pkit.training.step import StepContext

CHANNELS = {"source_channels": 3, "target_channels": 3}


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Linear(nn.Module):
    """A discriminator whose logits at two scales are sums over pixels of weight times image; four and one of them."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, source: Tensor, image: Tensor) -> list[Tensor]:
        halves = nn.functional.avg_pool2d(image, 2, divisor_override=1).sum(1, keepdim=True)
        return [self.weight * halves, self.weight * halves.sum((2, 3), keepdim=True)]


class Squares(nn.Module):
    """A discriminator that says of an image half the sum of its squares, whose gradient is the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return self.weight * image.square().sum((1, 2, 3), keepdim=True) / 2


class Layers(nn.Module):
    """A discriminator that gives two features of an image: itself, and twice its first column."""

    has_features = True

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> DiscriminatorOutput:
        return DiscriminatorOutput([image], [image, 2 * image[..., :1]])


def step(discriminator: nn.Module, target: Tensor, fake: Tensor) -> StepContext:
    return StepContext(target, target, fake, discriminator)


def discriminator_loss(name: str, seen: StepContext, **parameters: float) -> Tensor:
    term: Tensor = p2pkit.create("losses", name, **parameters).discriminator_loss(seen)
    return term


def generator_loss(name: str, target: Tensor, fake: Tensor, discriminator: nn.Module | None = None) -> Tensor:
    term: Tensor = p2pkit.create("losses", name).generator_loss(step(discriminator or Layers(), target, fake))
    return term


@pytest.mark.parametrize("batch", [1, 2])
def test_the_wasserstein_loss_by_hand(batch: int) -> None:
    target, fake = images(1, batch, 3, 4, 4), images(2, batch, 3, 4, 4)
    seen = step(Linear(0.5), target, fake)
    # the mean over four patches is a quarter of the sum, the other scale's the sum; their mean is 0.625 of it
    value = 0.5 * 0.625 * (fake - target).sum() / batch
    norm = 0.5 * 0.625 * math.sqrt(3 * 4 * 4)
    expected = float(value) + 10 * (norm - 1) ** 2
    term = discriminator_loss("wgan_gp", seen)
    assert term.item() == pytest.approx(expected, abs=1e-5)
    assert discriminator_loss("wgan_gp", seen, penalty=0.0).item() == pytest.approx(float(value), abs=1e-5)
    assert generator_loss("wgan_gp", target, fake, Linear(0.5)).item() == pytest.approx(
        float(-0.5 * 0.625 * fake.sum() / batch), abs=1e-5
    )


def test_the_wasserstein_penalty_is_taken_between_real_and_fake() -> None:
    # of squares, the gradient's norm at an image that is constant is its value times the root of their number
    target, fake = torch.zeros(64, 1, 2, 2), torch.full((64, 1, 2, 2), 3.0)
    torch.manual_seed(0)
    places = torch.rand(64, 1, 1, 1)
    torch.manual_seed(0)
    term = discriminator_loss("wgan_gp", step(Squares(), target, fake), penalty=1.0)
    expected = 2 * 9.0 + (2 * 3.0 * places - 1).square().mean()
    assert term.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("name", "slope"), [("wgan_gp", 10 * 2 * (2 - 1) * 2), ("r1", 2 * 2)])
def test_gradient_penalties_move_the_weights(name: str, slope: float) -> None:
    # with D = w * |image|^2 / 2 and an image of norm 2, the penalties at w = 1 are 10 (2w - 1)^2 and (2w)^2 / 2
    discriminator, image = Squares(), torch.ones(1, 1, 2, 2)
    discriminator_loss(name, step(discriminator, image, image)).backward()
    assert discriminator.weight.grad is not None
    assert discriminator.weight.grad.item() == pytest.approx(slope, rel=1e-5)


def test_r1_is_half_the_squared_norm_of_the_gradient_on_real_images() -> None:
    target, fake = images(1, 3, 2, 4, 4), images(2, 3, 2, 4, 4)
    term = discriminator_loss("r1", step(Squares(), target, fake))
    assert term.item() == pytest.approx(float(target.square().sum() / 3 / 2), rel=1e-5)


class Half(nn.Module):
    """A discriminator of 128x128 patches that computes in half precision."""

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        return (image.half() * 1e-3).float()


def test_the_gradient_of_many_patches_survives_half_precision() -> None:
    target = images(1, 1, 1, 128, 128)
    term = discriminator_loss("r1", step(Half(), target, target))
    assert term.item() == pytest.approx((1e-3) ** 2 / 128**2 / 2, rel=2e-3)


@pytest.mark.parametrize("name", ["wgan_gp", "r1"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradient_penalties_reach_every_convolution(
    name: str, norm: str, spectral_norm: bool, precision: torch.dtype
) -> None:
    torch.manual_seed(0)
    discriminator = p2pkit.create(
        "discriminators", "patchgan", layers=2, width=4, norm=norm, spectral_norm=spectral_norm, **CHANNELS
    )
    target, fake = images(1, 1, 3, 32, 32), images(2, 1, 3, 32, 32)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        term = discriminator_loss(name, step(discriminator, target, fake))
    term.backward()
    weights = [value for value in discriminator.parameters() if value.ndim == 4]
    assert term.isfinite() and len(weights) == 4
    assert all(value.grad is not None and value.grad.any() and value.grad.isfinite().all() for value in weights)


def test_feature_matching_sums_the_mean_differences_of_all_features() -> None:
    target, fake = images(1, 2, 1, 3, 5).requires_grad_(), images(2, 2, 1, 3, 5).requires_grad_()
    term = generator_loss("feature_matching", target, fake)
    difference = (fake - target).abs().detach()
    assert term.item() == pytest.approx(float(difference.mean() + 2 * difference[..., :1].mean()), rel=1e-5)
    term.backward()
    assert fake.grad is not None and fake.grad.all()
    assert target.grad is None


def test_feature_matching_adds_up_the_patchgans_layers() -> None:
    discriminator = p2pkit.create("discriminators", "patchgan_16", width=4, **CHANNELS)
    target, fake = images(1, 1, 3, 16, 16), images(2, 1, 3, 16, 16)
    real, faked = (discriminator(target, image, features=True).features for image in (target, fake))
    expected = sum(float((one - other).abs().mean().detach()) for one, other in zip(real, faked, strict=True))
    assert len(real) == 2
    assert generator_loss("feature_matching", target, fake, discriminator).item() == pytest.approx(expected, rel=1e-4)


def test_a_discriminator_without_features_is_refused_with_what_to_do() -> None:
    image = images(1, 1, 1, 2, 2)
    with pytest.raises(RecipeError, match=r'choose one that does, such as "patchgan_70".* has_features = True'):
        generator_loss("feature_matching", image, image, Squares())


def test_the_charbonnier_distance() -> None:
    target = torch.zeros(1, 1, 1, 2)
    fake = torch.tensor([[[[0.0, 0.5]]]], requires_grad=True)
    loss = p2pkit.create("losses", "charbonnier", epsilon=0.01)
    term = loss.generator_loss(step(Layers(), target, fake))
    assert term.item() == pytest.approx((0.01 + math.hypot(0.5, 0.01)) / 2, rel=1e-6)
    term.backward()
    slopes = [0.0, 0.5 * 0.5 / math.hypot(0.5, 0.01)]
    assert fake.grad is not None and fake.grad.flatten().tolist() == pytest.approx(slopes)
    with pytest.raises(RecipeError, match="epsilon"):
        p2pkit.create("losses", "charbonnier", epsilon=0.0)


def test_the_total_variation_counts_steps_between_neighbours() -> None:
    fake = torch.zeros(1, 2, 3, 4)
    fake[:, :, :, 2:] = 0.5  # a step of 0.5 in each of the three rows, in both channels
    fake[:, 0, 2, :] += 0.25  # and one of 0.25 down each of the four columns, in one of them
    assert generator_loss("total_variation", torch.zeros(1), fake).item() == pytest.approx((6 * 0.5 + 4 * 0.25) / 24)
    assert generator_loss("total_variation", torch.zeros(1), torch.ones(2, 3, 1, 1)).item() == 0.0


def ssim_by_hand(one: Tensor, other: Tensor) -> float:
    """The index of two images [size, size] that are one window (Wang et al. 2004, equation 13 and section III.C)."""
    places = np.arange(one.shape[0]) - (one.shape[0] - 1) / 2
    window = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    # the paper's images go from 0 to L; here L = 1
    x, y = ((image.double().numpy() + 1) / 2 for image in (one, other))
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    variance_x, variance_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
    covariance = (window * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(above / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)))


def test_the_structural_similarity_of_one_window() -> None:
    # one channel after another
    target = images(1, 1, 4, 11, 11)
    fake = images(2, 1, 4, 11, 11) * 0.5 + target * 0.5
    expected = np.mean([ssim_by_hand(target[0, channel], fake[0, channel]) for channel in range(4)])
    assert generator_loss("ssim", target, fake).item() == pytest.approx(1 - expected, abs=1e-5)
    assert 0.05 < expected < 0.95


def test_the_structural_similarity_is_the_mean_over_all_windows() -> None:
    target, fake = images(1, 1, 1, 12, 13), images(2, 1, 1, 12, 13)
    windows = [(slice(row, row + 11), slice(column, column + 11)) for row in range(2) for column in range(3)]
    expected = np.mean([ssim_by_hand(target[0, 0][window], fake[0, 0][window]) for window in windows])
    assert generator_loss("ssim", target, fake).item() == pytest.approx(1 - expected, abs=1e-5)


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(RecipeError, match="SSIM needs images of 11x11 pixels or more, for its window; found 40x10"):
        generator_loss("ssim", images(1, 1, 3, 40, 10), images(2, 1, 3, 40, 10))


@pytest.mark.parametrize("make", [lambda: torch.zeros(1, 3, 16, 16), lambda: images(1, 1, 5, 11, 40)])
def test_an_image_is_like_itself(make: Callable[[], Tensor]) -> None:
    fake = make().requires_grad_()
    term = generator_loss("ssim", make(), fake)
    assert term.item() == pytest.approx(0.0, abs=1e-6)
    term.backward()
    assert fake.grad is not None and fake.grad.isfinite().all()


def largest_singular_values(discriminator: nn.Module) -> list[float]:
    discriminator.eval()
    layers = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    return [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers]


@pytest.mark.parametrize("name", [name for name in p2pkit.components("discriminators") if name.startswith("patchgan")])
def test_spectral_norm_holds_every_convolution(name: str) -> None:
    torch.manual_seed(0)
    spectral = p2pkit.create("discriminators", name, width=4, spectral_norm=True, **CHANNELS)
    free = p2pkit.create("discriminators", name, width=4, **CHANNELS)
    image = images(1, 1, 3, 128, 128)
    for _ in range(100):  # power iterations
        spectral(image, image)
    assert largest_singular_values(spectral) == pytest.approx([1.0] * len(largest_singular_values(spectral)), abs=0.01)
    assert all(abs(value - 1) > 0.05 for value in largest_singular_values(free))
    assert sum(value.numel() for value in spectral.parameters()) == sum(value.numel() for value in free.parameters())


def test_spectral_norm_keeps_the_receptive_field_and_needs_no_memory_to_be_looked_at() -> None:
    with torch.device("meta"):
        discriminator = p2pkit.create("discriminators", "patchgan_70", spectral_norm=True, **CHANNELS)
        assert discriminator(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)).shape == (1, 1, 6, 6)
    assert all(value.is_meta for value in [*discriminator.parameters(), *discriminator.buffers()])
