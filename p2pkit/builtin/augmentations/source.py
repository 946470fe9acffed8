"""Augmentations of the source alone, for generators that are to bear other light and noise; label maps stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

Factor = Annotated[float, Field(ge=0, le=1)]


class ColourJitter:
    """Change brightness, contrast, saturation and hue of the source at random; the target keeps its colours.

    Sources of other than 3 channels have their brightness and contrast changed, all channels by the same factors.

    Args:
        brightness: the factor is between 1 - ``brightness`` and 1 + ``brightness``.
        contrast: the same for the distance from the mean.
        saturation: the same for the distance from gray.
        hue: at most so much of the colour circle, either way.
    """

    def __init__(
        self,
        brightness: Factor = 0.2,
        contrast: Factor = 0.2,
        saturation: Factor = 0.2,
        hue: Annotated[float, Field(ge=0, le=0.5)] = 0.02,
    ) -> None:
        self.jitter = v2.ColorJitter(brightness, contrast, saturation, hue)

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Sequence[Any]:
        """Source [Cs, H, W] in [0, 1], changed unless it is a label map, several each by itself; the rest as it is."""
        return _of_sources(self._jittered, source), target, *mask

    def _jittered(self, source: Tensor) -> Tensor:
        colour = len(source) == 3
        # torchvision takes images of 1 or 3 channels, and many at once
        jittered: Tensor = self.jitter(source if colour else source.as_subclass(Tensor)[:, None])
        return jittered if colour else jittered[:, 0]


class Noise:
    """Add Gaussian noise to the source; the target stays as it is.

    Args:
        sigma: the largest standard deviation, as a fraction of the range of values; each sample's is drawn from 0 on.
    """

    def __init__(self, sigma: Annotated[float, Field(ge=0, le=1)] = 0.05) -> None:
        self.sigma = sigma

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Sequence[Any]:
        """Source [Cs, H, W] in [0, 1], noisy unless it is a label map, several each by itself; the rest as it is."""
        return _of_sources(self._noisy, source), target, *mask

    def _noisy(self, source: Tensor) -> Tensor:
        noisy: Tensor = v2.functional.gaussian_noise(source, sigma=self.sigma * float(torch.rand(())))
        return noisy


def _of_sources(change: Callable[[Tensor], Tensor], source: Any) -> Any:
    """What ``change`` makes of each source that is not a label map; several are a dict."""
    if isinstance(source, dict):
        return {name: _of_sources(change, image) for name, image in source.items()}
    return source if isinstance(source, tv_tensors.Mask) else change(source)
