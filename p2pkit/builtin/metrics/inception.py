"""Distances between the distributions of outputs and targets, as Inception's features have them.

The network is the one that published numbers are of: the weights of 2015, resized to as TensorFlow 1 did.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.builtin.weights import TrainedNetwork, published_file, read_weights
from p2pkit.errors import DataError, PluginError, RecipeError

FEATURES = 2048
CLASSES = 1008


class _OfInception:
    """A metric over a set by the features that Inception has of its images."""

    higher_is_better: bool | None = False
    over = "set"

    def __init__(self, weights: Path | None, download: bool) -> None:
        self._network = _inception(weights or _published(download))
        self.computed_with = self._network.computed_with
        self.reset()

    def features(self, image: Tensor) -> Tensor:
        """Those [N, 2048] of images [N, C, H, W] in [0, 1], which are rounded to 8 bits as files are."""
        if not image.isfinite().all():  # NaN has no place in 8 bits
            return torch.full((len(image), FEATURES), torch.nan)
        made: Tensor = self._network(image.mul(255).round().to(torch.uint8))[0]
        return made

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in the features [N, 2048] of outputs and targets."""
        self._outputs.append(output.double())
        self._targets.append(target.double())

    def reset(self) -> None:
        """Begin anew."""
        self._outputs, self._targets = list[Tensor](), list[Tensor]()

    def _taken(self) -> tuple[Tensor, Tensor]:
        """All that was taken in, [N, 2048]."""
        count = sum(map(len, self._outputs))
        if count < 2:
            raise RecipeError(
                f"{type(self).__name__} compares distributions, for which it needs two images at least; found {count}: "
                "take more, or leave it out"
            )
        return torch.cat(self._outputs), torch.cat(self._targets)


class FID(_OfInception):
    """Fréchet inception distance (Heusel et al. 2017) of the outputs from the targets, over all of them; 0 is perfect.

    With few images it is much too high, and it falls with their number: compare only values of equally many, best
    thousands. ``kid`` does not have this bias. It needs p2pkit[fid]. Weights are taken from torch's hub cache, or
    downloaded into it.

    Args:
        weights: a file with Inception's weights by torch-fidelity's names (.safetensors or .pth), in their stead.
        download: download what is not in the cache; without it, missing weights are refused at once.
    """

    def __init__(self, weights: Path | None = None, download: bool = True) -> None:
        super().__init__(weights, download)

    def compute(self) -> Tensor:
        """The distance of two Gaussians with the means and covariances of the features (equation 6)."""
        outputs, targets = self._taken()
        if not outputs.isfinite().all():
            return torch.tensor(torch.nan)
        shift = (outputs.mean(0) - targets.mean(0)).square().sum()
        one, other = _root_of_covariance(outputs), _root_of_covariance(targets)
        # the trace of the root of a product AᵀA BᵀB of covariances is the sum of the singular values of A Bᵀ. For few
        # images these are few: torchmetrics takes seconds for the eigenvalues of the product, most of them 0
        common = torch.linalg.svdvals(one @ other.T).sum()
        distance: Tensor = shift + one.square().sum() + other.square().sum() - 2 * common
        return distance


class KID(_OfInception):
    """Kernel inception distance (Bińkowski et al. 2018) of the outputs from the targets, over all of them.

    0 is what equal distributions have in the mean, whatever the number of images; single values scatter around it, and
    may be negative. It needs p2pkit[fid]. Weights are taken from torch's hub cache, or downloaded into it.

    Args:
        subset_size: so many images, drawn without replacement, make an estimate; with fewer images all of them do.
        subsets: the mean of so many estimates is taken.
        weights: a file with Inception's weights by torch-fidelity's names (.safetensors or .pth), in their stead.
        download: download what is not in the cache; without it, missing weights are refused at once.
    """

    def __init__(
        self,
        subset_size: Annotated[int, Field(ge=2)] = 1000,
        subsets: Annotated[int, Field(ge=1)] = 100,
        weights: Path | None = None,
        download: bool = True,
    ) -> None:
        self._subset_size, self._subsets = subset_size, subsets
        super().__init__(weights, download)

    def compute(self) -> Tensor:
        """The mean of the unbiased estimates of squared maximum mean discrepancies, by cubic polynomials."""
        from torchmetrics.image.kid import poly_mmd

        outputs, targets = self._taken()
        size = min(self._subset_size, len(outputs))
        # one seed, so that models that are compared are compared by the same draws
        rng = torch.Generator().manual_seed(0)
        estimates = []
        for _ in range(self._subsets if size < len(outputs) else 1):
            first, second = (torch.randperm(len(outputs), generator=rng)[:size] for _ in range(2))
            estimates.append(poly_mmd(targets[first], outputs[second]))
        return torch.stack(estimates).mean()


def _root_of_covariance(features: Tensor) -> Tensor:
    """A matrix A [at most d, d] for which AᵀA is the unbiased covariance of features [N, d]."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    root: Tensor = torch.linalg.qr(centred, mode="r").R
    return root


def _published(download: bool) -> Path:
    return published_file("Inception", _fidelity().URL_INCEPTION_V3, download)


def _fidelity() -> Any:
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise PluginError(
            "Inception, which fid and kid compare images by, needs torch-fidelity, which is not installed: "
            "pip install 'p2pkit[fid]'"
        ) from error
    return feature_extractor_inceptionv3


@lru_cache(maxsize=2)
def _inception(file: Path) -> TrainedNetwork:
    """Images [N, 3, H, W], 0 to 255 in 8 bits, to a tuple of their features [N, 2048]."""
    fidelity, weights, saved = _fidelity(), read_weights(file), io.BytesIO()
    # of classes, which no feature depends on: a file may lack them
    weights.setdefault("fc.weight", torch.zeros(CLASSES, FEATURES))
    weights.setdefault("fc.bias", torch.zeros(CLASSES))
    torch.save(weights, saved)  # in memory: it would load a file itself, whatever code that holds
    saved.seek(0)
    with torch.random.fork_rng(devices=[]):
        try:
            network = fidelity.FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=saved
            )
        except RuntimeError as error:
            reason = shorten(str(error).partition("\n")[2] or str(error), 200)
            raise DataError(
                f"{file}: it does not hold the weights of Inception by torch-fidelity's names: {reason}"
            ) from error
    network.fc = nn.Identity()
    return TrainedNetwork.of("inception-v3 of 2015", network)
