"""A generator as one network that needs nothing around it: any size, statistics and noise are part of its graph.

It says in operations that can be captured what :mod:`p2pkit.inference.policy` does with hooks and numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from p2pkit.contracts import Normalisation, Policy, SizedGenerator
from p2pkit.inference.policy import Dropout
from p2pkit.inference.statistics import BatchNorm, after_normalising
from p2pkit.networks.latent import Latent


class Standalone(nn.Module):
    """A copy of ``generator`` for sources [N, Cs, H, W] of any height and width, by ``policy``.

    With ``policy.dropout`` it takes, after the source, the noise of each call of a dropout or latent in the order of
    these calls. A dropout's is uniform in [0, 1), [N, C, h, w] or larger; a value is kept where its noise is at least
    the probability. A latent's is [N, size], from N(0, 1).
    """

    def __init__(self, generator: nn.Module, policy: Policy) -> None:
        super().__init__()
        self.multiple, self.smallest = 1, 1
        if isinstance(generator, SizedGenerator):
            self.multiple, self.smallest = generator.size_multiple, generator.smallest_size
        self.draws = Draws()
        self.generator = deepcopy(generator).to(memory_format=torch.contiguous_format)
        self._replace(self.generator, policy)
        self.eval().requires_grad_(False)

    def _replace(self, network: nn.Module, policy: Policy) -> None:
        for name, child in network.named_children():
            if isinstance(child, BatchNorm) and policy.norm != "running":
                layers = nn.Sequential(_OwnStatistics(child, policy.norm), *after_normalising(child))
                self._replace(layers, policy)
                setattr(network, name, layers)
            elif isinstance(child, Dropout):
                setattr(network, name, _GivenNoise(child, self.draws) if policy.dropout else nn.Identity())
            elif isinstance(child, Latent):
                setattr(network, name, _GivenLatent(child, self.draws if policy.dropout else None))
            else:
                self._replace(child, policy)

    def forward(self, source: Tensor, *noise: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1], and noise, to target [N, Ct, H, W] in [-1, 1]."""
        height, width = source.shape[2:]
        rows, columns = self._fitting(height), self._fitting(width)
        above, left = (rows - height) // 2, (columns - width) // 2
        padded = source.index_select(2, _reflected(height, rows)).index_select(3, _reflected(width, columns))
        self.draws.noise = iter(noise)
        target: Tensor = self.generator(padded)
        # by indices, because a slice would have the capture prove that it lies within
        return target.index_select(2, above + torch.arange(height)).index_select(3, left + torch.arange(width))

    def _fitting(self, side: int) -> int:
        """The smallest side not below ``side`` that the generator takes."""
        # by way of a tensor, so that the capture knows nothing of the result: worked out from ``side``, it would be
        # assumed not to be the smallest size, where inner layers see one pixel
        at_least = torch.full((), side, dtype=torch.int64).clamp(min=self.smallest)
        multiples: Any = (at_least + (self.multiple - 1)) // self.multiple
        count: int = multiples.item()
        torch._check(count >= ceil(self.smallest / self.multiple))
        return count * self.multiple


def _reflected(side: int, new_side: int) -> Tensor:
    """The indices that continue ``side`` pixels by reflection, as often as needed, evenly before and behind."""
    period = torch.full((1,), 2 * side - 2, dtype=torch.int64).clamp(min=1)
    place = (torch.arange(new_side) - (new_side - side) // 2).remainder(period)
    return torch.minimum(place, period - place)


class Draws:
    """The noise of one translation, which each dropout takes its part of in turn."""

    noise: Iterator[Tensor] = iter(())


class _OwnStatistics(nn.Module):
    """Batch norm by the statistics of each image, or of the batch."""

    def __init__(self, batch_norm: Any, norm: Normalisation) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.norm = batch_norm.weight, batch_norm.bias, batch_norm.eps, norm
        self.mean, self.variance = batch_norm.running_mean, batch_norm.running_var

    def forward(self, values: Tensor) -> Tensor:
        count, channels, height, width = values.shape
        if self.norm == "sample":
            alone = isinstance(height, int) and isinstance(width, int) and height * width == 1
            return self._as_in_training(values) if alone else self._normalised(values)
        as_one = values.transpose(0, 1).reshape(1, channels, count * height, width)
        return self._normalised(as_one).reshape(channels, count, height, width).transpose(0, 1)

    def _as_in_training(self, values: Tensor) -> Tensor:
        mean, variance, weight, bias = self.mean, self.variance, self.weight, self.bias
        return nn.functional.batch_norm(values, mean, variance, weight, bias, training=False, eps=self.eps)

    def _normalised(self, values: Tensor) -> Tensor:
        # not by torch.nn.functional, whose check of sizes cannot be captured
        weight, bias, eps = self.weight, self.bias, self.eps
        normalised: Tensor = torch.instance_norm(values, weight, bias, None, None, True, 0.0, eps, False)
        return normalised


class _GivenLatent(nn.Module):
    """Latent vectors from outside, or the mean."""

    def __init__(self, latent: Latent, draws: Draws | None) -> None:
        super().__init__()
        self.size, self.draws = latent.size, draws

    def forward(self, source: Tensor) -> Tensor:
        return next(self.draws.noise) if self.draws else source.new_zeros(source.shape[0], self.size)


class _GivenNoise(nn.Module):
    """Inverted dropout of what noise from outside says."""

    def __init__(self, dropout: Any, draws: Draws) -> None:
        super().__init__()
        self.p, self.draws, self.whole_channels = dropout.p, draws, not isinstance(dropout, nn.Dropout)

    def forward(self, values: Tensor) -> Tensor:
        if self.p == 0.0:
            return values
        noise = next(self.draws.noise)
        if not self.whole_channels:
            rows, columns = (torch.arange(side) for side in values.shape[2:])
            noise = noise.index_select(2, rows).index_select(3, columns)
        dropped: Tensor = values * (noise >= self.p).to(values.dtype) / (1.0 - self.p)
        return dropped
