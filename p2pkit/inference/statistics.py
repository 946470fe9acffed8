"""The statistics that a network's normalisation layers would take from a whole image, gathered from its tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2pkit.contracts import Normalisation

BatchNorm = nn.modules.batchnorm._BatchNorm
InstanceNorm = nn.modules.instancenorm._InstanceNorm
Box = tuple[float, float, float, float]
"""Top, bottom, left and right of a part of a tile, as fractions of the tile."""


def normalises_each_image(module: nn.Module, norm: Normalisation) -> bool:
    """Whether a layer takes statistics over the pixels of what it is given, so that they differ from tile to tile."""
    if isinstance(module, InstanceNorm):
        return not module.track_running_stats
    return isinstance(module, nn.GroupNorm) or (isinstance(module, BatchNorm) and norm != "running")


def after_normalising(module: nn.Module) -> list[nn.Module]:
    """What a normalisation layer puts its normalised values through: timm's may have a dropout and an activation."""
    found = (getattr(module, name, None) for name in ("drop", "act"))
    return [one for one in found if isinstance(one, nn.Module)]


class LayerReached(Exception):  # noqa: N818 - it says how far a pass went
    """A pass has come to the layer whose statistics are being gathered; what follows depends on them."""


class ImageStatistics:
    """Mean and variance of each normalisation layer's input over one whole image, per channel.

    A layer's statistics depend on what the layers before make of the image, which depends on theirs. So they are
    gathered one layer after another (:meth:`gather`), and are exact for the tiles they are gathered from.
    """

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, Tensor]] = []
        self._calls = 0
        self._own: Box = (0.0, 1.0, 0.0, 1.0)
        self._sums: Any = 0.0
        self._weight = 0.0

    def gather(self, passes: Iterable[tuple[Box, Callable[[], object]]]) -> bool:
        """Gather the statistics of the next layer; each of ``passes`` runs the network on one tile.

        What counts of a tile is the part within its box, so that no pixel of the image counts twice. Gives False when
        there was none left: the first of the passes went through.
        """
        self._sums, self._weight = 0.0, 0.0
        for self._own, run in passes:
            try:
                run()
            except LayerReached:
                continue
            return False
        mean, square = self._sums / self._weight
        self._known.append((mean.float(), (square - mean**2).clamp_(min=0.0).float()))
        return True

    def begin(self) -> None:
        """A pass through the network begins. Layers are identified by their turn, since one may be used twice."""
        self._calls = 0

    def normalised(self, module: Any, values: Tensor) -> Tensor:
        """What the layer ``module`` makes of ``values`` [N, C, H, W] with the statistics of the image.

        Raises:
            LayerReached: they are not known yet; ``values`` count towards them now.
        """
        if self._calls == len(self._known):
            self._add(module, values)
            raise LayerReached
        mean, variance = (moment.to(values.device) for moment in self._known[self._calls])
        self._calls += 1
        return F.batch_norm(values, mean, variance, module.weight, module.bias, training=False, eps=module.eps)

    def _add(self, module: nn.Module, values: Tensor) -> None:
        # in float64, since a variance is a small difference of large sums; GPUs of Apple have none
        height, width = values.shape[2:]
        top, bottom, left, right = self._own
        own = values[:, :, _part(top, bottom, height), _part(left, right, width)]
        variance, mean = torch.var_mean(own.float(), dim=(2, 3), correction=0)
        if values.device.type == "mps":
            variance, mean = variance.cpu(), mean.cpu()
        moments = torch.stack([mean.double(), variance.double() + mean.double() ** 2]).sum(dim=1)
        weight = (bottom - top) * (right - left)
        if isinstance(module, nn.GroupNorm):
            groups = moments.view(2, module.num_groups, -1)
            moments = groups.mean(dim=2, keepdim=True).expand_as(groups).reshape(2, -1)
        self._sums = self._sums + moments * weight
        self._weight += weight * len(values)


def _part(first: float, last: float, features: int) -> slice:
    """The features of ``features`` along a side that belong to a part of it, at least one."""
    begin = min(round(first * features), features - 1)
    return slice(begin, max(begin + 1, round(last * features)))
