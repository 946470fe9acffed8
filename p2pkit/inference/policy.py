"""A generator at work outside training: any size, and results that do not depend on the batch.

The paper translates with dropout on and with the statistics of the test batch, which is one image (section 3.3). Here
the same holds for every image by itself, whatever batch it comes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2pkit.contracts import Normalisation
from p2pkit.contracts import Policy as Policy  # its home is with what needs no torch
from p2pkit.inference.statistics import BatchNorm, ImageStatistics, after_normalising, normalises_each_image
from p2pkit.networks.fitting import fitting_size, in_fast_layout
from p2pkit.networks.latent import Latent
from p2pkit.networks.noise import dropout_mask
from p2pkit.utils.seeds import derived

Corner = tuple[int, int]
"""Row and column of a tile's first pixel in its image."""
Dropout = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def noise_seeds(seed: int, count: int) -> list[int]:
    """The seeds of ``count`` images' noise. All are the same: an image's noise must not depend on its place."""
    return [derived(seed, "noise")] * count


def infer(
    generator: nn.Module,
    source: Tensor,
    policy: Policy,
    seeds: Sequence[int],
    corners: Sequence[Corner] | None = None,
    statistics: ImageStatistics | None = None,
    drawn: list[Tensor] | None = None,
) -> Tensor:
    """Translate sources [N, Cs, H, W] in [-1, 1] of any height and width; ``seeds`` are the N images' noise.

    The source is padded by reflection to what the generator takes, and the output cropped back. The generator's mode,
    its running statistics and torch's own random state are left as they were.

    Tiles of a larger image give their ``corners`` in it, so that noise is the same wherever tiles overlap, and the
    ``statistics`` of the whole of it, which then take the place of each tile's own. ``drawn`` takes the noise in the
    order in which it is drawn: what a dropout lets through as a boolean tensor [N, C, h, w], a latent as [N, size].
    """
    assert len(seeds) == len(source)
    height, width = source.shape[2:]
    padded = _reflected(source, fitting_size(generator, (height, width)))
    top, left = (padded.shape[2] - height) // 2, (padded.shape[3] - width) // 2
    origins = [(row - top, column - left) for row, column in corners or [(0, 0)] * len(source)]
    noise = _Noise(seeds, origins, padded.shape[2:], drawn) if policy.dropout else None
    with torch.inference_mode(), _following(generator, policy.norm, noise, statistics):
        output: Tensor = generator(in_fast_layout(padded, padded.device))
    return output[:, :, top : top + height, left : left + width].float()


def _reflected(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [N, C, H, W] continued by reflection, evenly on all sides, to ``size``."""
    if tuple(image.shape[2:]) == size:
        return image
    # by indices, because torch reflects no further than the image is wide
    rows, columns = (_reflected_indices(old, new) for old, new in zip(image.shape[2:], size, strict=True))
    return image[:, :, rows][:, :, :, columns]


def _reflected_indices(side: int, new_side: int) -> Tensor:
    before = (new_side - side) // 2
    return torch.from_numpy(np.pad(np.arange(side), (before, new_side - side - before), mode="reflect"))


@dataclass(frozen=True)
class _Noise:
    """The noise of a batch: for each image its seed, and where its first (padded) pixel lies in the plane of noise."""

    seeds: Sequence[int]
    origins: Sequence[Corner]
    size: Sequence[int]
    drawn: list[Tensor] | None

    def dropped(self, values: Tensor, probability: float, layer: int, whole_channels: bool) -> Tensor:
        """Inverted dropout of a layer's ``values`` [N, C, ...], with noise that each image has by itself."""
        if probability == 0.0:
            return values
        shape = (values.shape[1], *([1] * (values.ndim - 2))) if whole_channels else tuple(values.shape[1:])
        masks = [
            dropout_mask(
                probability, shape, self._first(values, origin, whole_channels), derived(seed, layer), values.device
            )
            for seed, origin in zip(self.seeds, self.origins, strict=True)
        ]
        through = torch.stack(masks)
        if self.drawn is not None:
            self.drawn.append(through)
        return values * through.to(values.dtype) / (1.0 - probability)

    def latents(self, source: Tensor, size: int, layer: int) -> Tensor:
        """A vector of ``size`` values from N(0, 1) for each image; drawn on the CPU, to be the same on any device."""
        draws = (torch.Generator().manual_seed(derived(seed, layer, "latent")) for seed in self.seeds)
        vectors = torch.stack([torch.randn(size, generator=draw) for draw in draws]).to(source)
        if self.drawn is not None:
            self.drawn.append(vectors)
        return vectors

    def _first(self, values: Tensor, origin: Corner, whole_channels: bool) -> list[int]:
        """The position of a feature map's first value, in values of that map."""
        if whole_channels or values.ndim != 4:
            return [0] * (values.ndim - 1)
        sides = zip(origin, values.shape[2:], self.size, strict=True)
        return [0, *(math.floor(first * features / pixels + 0.5) for first, features, pixels in sides)]


@contextmanager
def _following(
    network: nn.Module, norm: Normalisation, noise: _Noise | None, statistics: ImageStatistics | None
) -> Iterator[None]:
    """Put ``network`` in evaluation mode, with its normalisation and dropout acting on the policy, for a while."""
    trained = {module: module.training for module in network.modules()}
    network.eval()
    if statistics is not None:
        statistics.begin()
    handles = []
    for number, module in enumerate(network.modules()):
        hook = _hook(module, number, norm, noise, statistics)
        if hook is not None:
            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in trained.items():
            module.training = mode


def _hook(
    module: Any, number: int, norm: Normalisation, noise: _Noise | None, statistics: ImageStatistics | None
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor] | None:
    """What replaces the output of ``module``; None when that stays as it is."""
    if isinstance(module, Latent) and noise is not None:
        return lambda _, inputs, output: noise.latents(inputs[0], module.size, number)
    if isinstance(module, Dropout) and noise is not None:
        whole_channels = not isinstance(module, nn.Dropout)
        return lambda _, inputs, output: noise.dropped(inputs[0], module.p, number, whole_channels)
    if statistics is not None and normalises_each_image(module, norm):
        return _replacing(module, norm, lambda values: statistics.normalised(module, values))
    if isinstance(module, BatchNorm) and norm != "running":
        return _replacing(module, norm, lambda values: _normalised(module, values, norm))
    return None


def _replacing(
    module: nn.Module, norm: Normalisation, normalise: Callable[[Tensor], Tensor]
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook that puts what ``normalise`` gives in the place of what a normalisation layer gives."""
    follow = after_normalising(module)

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (values,) = inputs
        of_one = values[:1] if norm == "sample" else values
        if isinstance(module, BatchNorm) and of_one[:, 0].numel() == 1:
            return output  # a single value, of a channel's mean say, has no statistics of its own
        values = normalise(values)
        for layer in follow:
            values = layer(values)
        return values

    return hook


def _normalised(module: Any, values: Tensor, norm: Normalisation) -> Tensor:
    """Batch norm with the statistics of each image, or of the batch; running statistics are neither read nor moved."""
    if norm == "batch":
        return F.batch_norm(values, None, None, module.weight, module.bias, training=True, eps=module.eps)
    each = [
        F.batch_norm(one, None, None, module.weight, module.bias, training=True, eps=module.eps)
        for one in torch.split(values, 1)
    ]
    return torch.cat(each)
