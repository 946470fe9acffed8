"""Metrics by their values: pixels and colours against scikit-image, distributions against closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.stats import ortho_group
from skimage.color import rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

import p2pkit
from p2pkit.builtin.metrics import pixels
from p2pkit.errors import RecipeError
from tests.trained_networks import FILES

SIZES = [(64, 64, 3), (97, 130, 1), (256, 200, 3)]


def pictures(height: int, width: int, channels: int, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """An output and its target [1, C, H, W] in [0, 1]: a smooth picture, and the same with noise and other contrast."""
    rng = np.random.default_rng(height + channels)
    small = torch.from_numpy(rng.random((1, channels, height // 8, width // 8)))
    target = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)
    output = (0.9 * target + noise * torch.from_numpy(rng.standard_normal(target.shape))).clamp(0, 1)
    return output.float(), target.float()


def arrays(*images: Tensor) -> Any:
    """Images [1, C, H, W] as arrays [H, W, C] of float64."""
    return [image[0].permute(1, 2, 0).double().numpy() for image in images]


def number(name: str, output: Tensor, target: Tensor, **parameters: Any) -> float:
    metric = p2pkit.create("metrics", name, **parameters)
    metric.update(output, target)
    return float(metric.compute())


def index_of_skimage(one: Any, other: Any, **constants: float) -> float:
    return float(
        structural_similarity(
            one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=-1,
            **constants,
        )
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_compared_as_scikit_image_does(size: tuple[int, int, int]) -> None:
    output, target = pictures(*size)
    one, other = arrays(output, target)
    assert number("mae", output, target) == pytest.approx(np.abs(one - other).mean(), abs=1e-6)
    expected = peak_signal_noise_ratio(other, one, data_range=1.0)
    assert number("psnr", output, target) == pytest.approx(expected, abs=1e-4)
    assert number("ssim", output, target) == pytest.approx(index_of_skimage(one, other), abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_ssim_and_its_gradient_are_those_of_torchmetrics(channels: int) -> None:
    random = torch.Generator().manual_seed(channels)
    output = torch.rand(2, channels, 40, 31, generator=random, dtype=torch.float64, requires_grad=True)
    target = (output.detach() + 0.1 * torch.rand(output.shape, generator=random)).clamp(max=1)
    map_of_all = structural_similarity_index_measure(output, target, data_range=1.0, return_full_image=True)[1]
    expected, found = map_of_all[..., 5:-5, 5:-5].mean((1, 2, 3)), pixels.structural_similarity(output, target)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-9)  # torchmetrics' window is of single precision
    gradients = [torch.autograd.grad(index.sum(), output)[0] for index in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-9)


@pytest.mark.parametrize("size", [(176, 176, 3), (256, 200, 3), (180, 256, 1)])
@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_multi_scale_similarity_is_that_of_scikit_images_scales(size: tuple[int, int, int], noise: float) -> None:
    output, target = pictures(*size, noise)
    one, other = arrays(output, target)
    expected = 1.0
    for exponent in (0.0448, 0.2856, 0.3001, 0.2363):
        expected *= index_of_skimage(one, other, K1=1e6) ** exponent  # which leaves the contrast's factor alone
        one, other = (
            each[: len(each) // 2 * 2, : each.shape[1] // 2 * 2].reshape(len(each) // 2, 2, each.shape[1] // 2, 2, -1)
            for each in (one, other)
        )
        one, other = one.mean((1, 3)), other.mean((1, 3))
    expected *= index_of_skimage(one, other) ** 0.1333
    assert number("ms_ssim", output, target) == pytest.approx(expected, abs=1e-4)
    assert 0.2 < expected < 0.995


@pytest.mark.parametrize("name", ["mae", "psnr", "ssim", "ms_ssim"])
def test_a_target_is_its_own_best_output(name: str) -> None:
    _, target = pictures(176, 176, 3)
    perfect = {"mae": 0.0, "psnr": 100.0}.get(name, 1.0)
    assert number(name, target, target) == pytest.approx(perfect, abs=1e-6)


def test_several_images_count_alike() -> None:
    metric, found = p2pkit.create("metrics", "ssim"), []
    for size in SIZES:
        images = pictures(*size)
        metric.update(*images)
        found.append(number("ssim", *images))
    assert metric.compute() == pytest.approx(np.mean(found), abs=1e-9)
    metric.reset()
    metric.update(*pictures(*SIZES[1]))
    assert metric.compute() == found[1]


@pytest.mark.parametrize(("name", "side"), [("ssim", 11), ("ms_ssim", 176)])
def test_images_smaller_than_the_window_are_refused_by_its_size(name: str, side: int) -> None:
    large, small = torch.rand(1, 3, side, side + 5), torch.rand(1, 3, side + 5, side - 1)
    number(name, large, large)
    with pytest.raises(RecipeError, match=rf"needs images of {side}x{side} pixels .* found {side + 5}x{side - 1} \(h"):
        number(name, small, small)


# --- distributions


@pytest.fixture
def inception(random_weights: Path) -> Path:
    """A file of weights; these tests feed the features themselves."""
    return random_weights / FILES["inception"]


def of_features(name: str, weights: Path, outputs: Any, targets: Any, **parameters: Any) -> float:
    """A number of features [N, d], which come one after another."""
    metric = p2pkit.create("metrics", name, weights=str(weights), **parameters)
    for output, target in zip(torch.as_tensor(outputs), torch.as_tensor(targets), strict=True):
        metric.update(output[None], target[None])
    return float(metric.compute())


def gaussian(rng: np.random.Generator, count: int, mean: Any, covariance: Any) -> Any:
    """``count`` features whose own mean and unbiased covariance are these, exactly."""
    drawn = rng.standard_normal((count, len(mean)))
    drawn -= drawn.mean(0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize("count", [9, 200])
def test_fid_is_the_distance_of_two_gaussians(count: int, inception: Path) -> None:
    rng, size = np.random.default_rng(0), 8
    means = rng.standard_normal((2, size))
    turn = ortho_group.rvs(size, random_state=1)
    one, other = np.diag(rng.uniform(0.5, 2, size)), turn @ np.diag(rng.uniform(0.5, 2, size)) @ turn.T
    outputs, targets = gaussian(rng, count, means[0], one), gaussian(rng, count, means[1], other)
    common = scipy.linalg.sqrtm(one @ other).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(one + other - 2 * common)
    assert of_features("fid", inception, outputs, targets) == pytest.approx(expected, abs=1e-8)
    assert of_features("fid", inception, targets, targets) == pytest.approx(0, abs=1e-8)


def test_fid_of_fewer_images_than_features_is_that_of_torchmetrics(inception: Path) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Features(torch.nn.Identity):
        num_features = 30

    rng = np.random.default_rng(1)
    outputs, targets = torch.from_numpy(rng.random((6, 30))), torch.from_numpy(rng.random((6, 30)) * 1.5)
    theirs = FrechetInceptionDistance(feature=Features())
    theirs.update(outputs, real=False)
    theirs.update(targets, real=True)
    assert of_features("fid", inception, outputs, targets) == pytest.approx(float(theirs.compute()), abs=1e-4)


def squared_discrepancy(one: Any, other: Any) -> float:
    """The unbiased estimate with (xy/d + 1)³ (Bińkowski et al. 2018, equation 3), in sums over pairs."""
    count, size = one.shape

    def kernel(x: Any, y: Any) -> Any:
        return (x @ y.T / size + 1) ** 3

    inner = [kernel(each, each) for each in (one, other)]
    within = sum((matrix.sum() - np.trace(matrix)) / (count * (count - 1)) for matrix in inner)
    return float(within - 2 * kernel(one, other).mean())


def test_kid_is_the_unbiased_estimate(inception: Path) -> None:
    rng = np.random.default_rng(2)
    outputs, targets = rng.random((20, 6)), rng.random((20, 6)) + 0.3
    expected = squared_discrepancy(outputs, targets)
    assert of_features("kid", inception, outputs, targets) == pytest.approx(expected, rel=1e-9)
    # of subsets, the mean comes near to that of all
    found = of_features("kid", inception, outputs, targets, subset_size=15, subsets=400)
    assert found != pytest.approx(expected, rel=1e-9) and found == pytest.approx(expected, rel=0.1)


def test_kid_of_equal_distributions_is_0_in_the_mean(inception: Path) -> None:
    rng = np.random.default_rng(3)
    found = [of_features("kid", inception, *rng.standard_normal((2, 12, 5))) for _ in range(300)]
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found)) < 3 * error
    assert error < 0.05 < 0.1 < np.std(found)


def test_kid_repeats_itself_and_draws_nothing_from_the_global_random_state(inception: Path) -> None:
    rng = np.random.default_rng(4)
    features = rng.random((2, 30, 4))
    state = torch.get_rng_state()
    first = of_features("kid", inception, *features, subset_size=10, subsets=5)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(7)
    assert first == of_features("kid", inception, *features, subset_size=10, subsets=5)


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_one_image_has_no_distribution(name: str, inception: Path) -> None:
    with pytest.raises(RecipeError, match=rf"{name.upper()} .* needs two images at least; found 1"):
        of_features(name, inception, np.zeros((1, 4)), np.ones((1, 4)))


# --- colours


def histograms(images: list[Any], bins: int) -> Any:
    """The shares [3, bins] of L, a and b in arrays [H, W, 3] in [0, 1], by scikit-image and NumPy."""
    lab = np.concatenate([rgb2lab(image).reshape(-1, 3) for image in images]).T
    ranges = ((0, 100), (-128, 128), (-128, 128))
    counts = [np.histogram(values, bins, limits)[0] for values, limits in zip(lab, ranges, strict=True)]
    return np.array(counts) / lab.shape[1]


@pytest.mark.parametrize("bins", [20, 100])
def test_the_intersection_of_lab_histograms_is_that_of_scikit_images_colours(bins: int) -> None:
    rng, metric = np.random.default_rng(5), p2pkit.create("metrics", "lab_histogram", bins=bins)
    outputs = [rng.random((30, 40 + 5 * index, 3)) ** 2 for index in range(3)]
    targets = [rng.random(image.shape) for image in outputs]
    for output, target in zip(outputs, targets, strict=True):
        metric.update(*(metric.features(torch.from_numpy(each).permute(2, 0, 1)[None]) for each in (output, target)))
    # by the smaller of the two shares in each bin, over all images together
    expected = np.minimum(histograms(outputs, bins), histograms(targets, bins)).sum(1)
    found = metric.compute()
    assert list(found) == ["lab_L", "lab_a", "lab_b"]
    assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-3)
    assert all(0.2 < value < 0.95 for value in expected)


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.02, 0.5, 0.9)])
def test_colours_are_converted_as_scikit_image_does(colour: tuple[float, float, float]) -> None:
    from p2pkit.images.lab import lab_from_rgb

    expected = rgb2lab(np.array(colour)[None, None])[0, 0]
    found = lab_from_rgb(torch.tensor(colour, dtype=torch.float64)[None, :, None, None]).flatten()
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-3)


def test_colours_come_in_threes() -> None:
    with pytest.raises(RecipeError, match=r"3 channels \(sRGB\); found 1; leave the metric out"):
        p2pkit.create("metrics", "lab_histogram").features(torch.zeros(1, 1, 4, 4))
