"""Distances between the features of outputs and targets in networks that were trained on ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2pkit.builtin.metrics.pixels import MeanOverImages, too_small
from p2pkit.builtin.weights import TrainedNetwork, published_file, read_weights, refuse_others

LAYERS = {"alexnet": (1, 4, 7, 9, 11), "vgg16": (3, 8, 15, 22, 29)}
"""The rectified layers of torchvision's networks whose features count: the last before each pooling, or all."""
CALLED = {"alex": "alexnet", "vgg": "vgg16"}
SMALLEST = {"alexnet": 31, "vgg16": 16}
"""Sides below these leave the last layer without features."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, by which DISTS normalises images in [0, 1]."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""The same for images in [-1, 1], rounded as LPIPS v0.1 has them."""


class LPIPS(MeanOverImages):
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018); 0 is perfect.

    Weights are taken from torch's hub cache, or downloaded into it. Images have sides of 31 pixels or more with
    "alex", of 16 or more with "vgg".

    Args:
        network: AlexNet, the authors' choice for comparing images, or VGG16.
        weights: a file with the network's weights by torchvision's names (.safetensors or .pth), in their stead.
            With lin0.weight to lin4.weight it also gives the weights of the layers, else torchmetrics' files do.
        download: download what is not in the cache; without it, missing weights are refused at once.
    """

    higher_is_better: bool | None = False
    value_range = (-1.0, 1.0)

    def __init__(
        self, network: Literal["alex", "vgg"] = "alex", weights: Path | None = None, download: bool = True
    ) -> None:
        name = CALLED[network]
        self.smallest_size = SMALLEST[name]
        self._network = _lpips(network, weights or _published(name, download))
        self.computed_with = self._network.computed_with

    def measured(self, output: Tensor, target: Tensor) -> Tensor:
        """The distances [N] of outputs and targets [N, C, H, W] in [-1, 1]; RecipeError where they are too small."""
        if min(output.shape[2:]) < self.smallest_size:
            raise too_small(output, self.smallest_size, "LPIPS", "the layers of its network")
        distance: Tensor = self._network(torch.cat([output, target]))
        return distance


class DISTS(MeanOverImages):
    """Deep image structure and texture similarity (Ding et al. 2020), as a distance; 0 is perfect.

    It compares the means and the correlation of VGG16's features over all of an image, so that another patch of the
    same texture is close. Weights are taken from torch's hub cache, or downloaded into it.

    Args:
        weights: a file with VGG16's weights by torchvision's names (.safetensors or .pth), in their stead. With
            alpha and beta it also gives the weights of the features, else torchmetrics' file does.
        download: download what is not in the cache; without it, missing weights are refused at once.
    """

    higher_is_better: bool | None = False

    def __init__(self, weights: Path | None = None, download: bool = True) -> None:
        self._network = _dists(weights or _published("vgg16", download))
        self.computed_with = self._network.computed_with

    def measured(self, output: Tensor, target: Tensor) -> Tensor:
        """The distances [N] of outputs and targets [N, C, H, W] in [0, 1]."""
        distance: Tensor = self._network(torch.cat([output, target]))
        return distance


class LPIPSNetwork(nn.Module):
    """The distances [N] of images [2 N, 3, H, W] in [-1, 1], the second half from the first."""

    shift: Tensor
    scale: Tensor

    def __init__(self, features: nn.Sequential, layers: Sequence[int], heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.features, self.layers = features, layers
        self.heads = nn.ParameterList(heads)
        """The weights [1, c, 1, 1] of each layer's features."""
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Equation 1 of the paper: mean squared differences of features that are normalised at each place."""
        found = _maps(self.features, (images - self.shift) / self.scale, self.layers)
        distance = torch.zeros(len(images) // 2)
        for values, head in zip(found, self.heads, strict=True):
            output, target = (values / (values.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
            distance = distance + ((output - target).square() * head).sum(1).mean((1, 2))
        return distance


class DISTSNetwork(nn.Module):
    """The distances [N] of images [2 N, 3, H, W] in [0, 1], the second half from the first."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        for index, layer in enumerate(features):
            if isinstance(layer, nn.MaxPool2d):
                features[index] = L2Pooling()
        self.features = features
        self.alpha, self.beta = nn.Parameter(alpha.flatten()), nn.Parameter(beta.flatten())
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Equation 6 of the paper: similarities of the image's and all features' means and covariances, weighted."""
        maps = [images, *_maps(self.features, (images - self.mean) / self.std, LAYERS["vgg16"])]
        textures, structures = [], []
        for values in maps:
            output, target = values.flatten(2).chunk(2)
            of_output, of_target = output.mean(2), target.mean(2)
            variances = output.var(2, correction=0) + target.var(2, correction=0)
            covariance = (output * target).mean(2) - of_output * of_target
            textures.append((2 * of_output * of_target + 1e-6) / (of_output.square() + of_target.square() + 1e-6))
            structures.append((2 * covariance + 1e-6) / (variances + 1e-6))
        weighted = torch.cat(textures, 1) * self.alpha + torch.cat(structures, 1) * self.beta
        return 1 - weighted.sum(1) / (self.alpha.sum() + self.beta.sum())


class L2Pooling(nn.Module):
    """Halves by the root of a weighted mean of squares under a Hanning window of 3x3 (Ding et al. 2020, equation 3)."""

    def forward(self, image: Tensor) -> Tensor:
        """Maps [N, C, H, W] to maps half as large."""
        window = torch.tensor([0.25, 0.5, 0.25])
        weights = (window[:, None] * window).expand(image.shape[1], 1, 3, 3)
        pooled = F.conv2d(image.square(), weights, stride=2, padding=1, groups=image.shape[1])
        return (pooled + 1e-12).sqrt()


def _maps(features: nn.Sequential, values: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """The outputs of those layers."""
    found = []
    for index, layer in enumerate(features):
        values = layer(values)
        if index in layers:
            found.append(values)
    return found


def _published(name: str, download: bool) -> Path:
    """The file with torchvision's weights of a network: its own, or one that has the same by the same names."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    if name == "alexnet":
        return published_file(name, AlexNet_Weights.IMAGENET1K_V1.url, download, "lpips_alexnet.safetensors")
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache("timm/vgg16.tv_in1k", "model.safetensors")
    others = [cached] if isinstance(cached, str) else []
    return published_file(name, VGG16_Weights.IMAGENET1K_V1.url, download, *others)


@lru_cache(maxsize=4)
def _lpips(network: str, file: Path) -> TrainedNetwork:
    weights, name, own = read_weights(file), CALLED[network], "lin{}.weight"
    shipped = {} if own.format(0) in weights else _of_torchmetrics(f"lpips_models/{network}.pth")
    heads = [weights[own.format(n)] if not shipped else shipped[f"lin{n}.model.1.weight"] for n in range(5)]
    return TrainedNetwork.of(name, LPIPSNetwork(_features(name, weights, file), LAYERS[name], heads))


@lru_cache(maxsize=2)
def _dists(file: Path) -> TrainedNetwork:
    weights = read_weights(file)
    others = weights if weights.keys() >= {"alpha", "beta"} else _of_torchmetrics("dists_models/weights.pt")
    network = DISTSNetwork(_features("vgg16", weights, file), others["alpha"], others["beta"])
    return TrainedNetwork.of("vgg16", network)


def _of_torchmetrics(name: str) -> Mapping[str, Tensor]:
    found = find_spec("torchmetrics")  # its folder alone, since its import takes a second or two
    assert found is not None and found.origin is not None
    return read_weights(Path(found.origin).parent / "functional/image" / name)


def _features(name: str, weights: Mapping[str, Tensor], file: Path) -> nn.Sequential:
    """The layers of one of torchvision's networks up to the last that counts, with ``weights`` from ``file``."""
    from torchvision import models

    with torch.device("meta"):  # without weights of its own, which are drawn for seconds
        network: Any = getattr(models, name)(weights=None).features
    features: nn.Sequential = network[: LAYERS[name][-1] + 1]
    own = {key.removeprefix("features."): value for key, value in weights.items() if key.startswith("features.")}
    refuse_others(features, own, file, f"torchvision's {name}")
    features.load_state_dict({key: own[key].float() for key in features.state_dict()}, assign=True)
    return features
