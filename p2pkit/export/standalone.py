"""A generator as one network that needs nothing around it: any size, statistics and noise are part of its graph."""

from __future__ import annotations

from copy import deepcopy
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from p2pkit.contracts import Policy
from p2pkit.inference.policy import PolicyNetwork
from p2pkit.networks.fitting import reflected


class Standalone(nn.Module):
    """A copy of ``generator`` for sources [N, Cs, H, W] of any height and width, by ``policy``.

    Its targets are ``scale`` times as high and wide. Several ``sources`` come one after another. With
    ``policy.dropout`` it takes noise after them, as a PolicyNetwork does, for the padded source.
    """

    def __init__(self, generator: nn.Module, policy: Policy, scale: int = 1, sources: int = 1) -> None:
        super().__init__()
        self.scale, self.more_sources = scale, sources - 1
        self.multiple: int = getattr(generator, "size_multiple", 1)
        self.smallest: int = getattr(generator, "smallest_size", 1)
        own = deepcopy(generator).to(memory_format=torch.contiguous_format)
        self.network = PolicyNetwork(own.requires_grad_(False), policy)
        self.eval()

    def forward(self, source: Tensor, *more: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1], further ones, noise, to target [N, Ct, scale * H, scale * W] in [-1, 1]."""
        noise = more[self.more_sources :]
        if self.more_sources:
            source = torch.cat([source, *more[: self.more_sources]], dim=1)
        height, width = source.shape[2:]
        rows, columns = self._fitting(height), self._fitting(width)
        above, left = (rows - height) // 2, (columns - width) // 2
        target: Tensor = self.network(reflected(source, rows, columns), *noise)
        # by indices, because a slice would have the capture prove that it lies within
        for axis, first, side in ((2, above, height), (3, left, width)):
            target = target.index_select(axis, self.scale * first + torch.arange(self.scale * side))
        return target

    def _fitting(self, side: int) -> int:
        """The smallest side not below ``side`` that the generator takes."""
        # by way of a tensor, so that the capture knows nothing of the result: worked out from ``side``, it would be
        # assumed not to be the smallest size, where inner layers see one pixel
        at_least = torch.full((), side, dtype=torch.int64).clamp(min=self.smallest)
        multiples: Any = (at_least + (self.multiple - 1)) // self.multiple
        count: int = multiples.item()
        torch._check(count >= ceil(self.smallest / self.multiple))
        return count * self.multiple
