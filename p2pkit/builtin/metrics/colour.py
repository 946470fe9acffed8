"""Whether outputs have the colours of targets, wherever these are."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from p2pkit.errors import RecipeError
from p2pkit.images.lab import lab_from_rgb

RANGES = {"lab_L": (0.0, 100.0), "lab_a": (-128.0, 128.0), "lab_b": (-128.0, 128.0)}
"""The names of the numbers, and the values that the bins of each go over."""


class LabHistogram:
    """The intersection of the histograms that outputs and targets have of L, a and b (Isola et al. 2017, figure 7).

    Over all pixels of all images: the sum over the bins of the smaller of the two shares, from 0 to 1, which is
    perfect. Images are sRGB; the numbers are lab_L, lab_a and lab_b.

    Args:
        bins: how many, for L from 0 to 100, for a and b from -128 to 128.
    """

    higher_is_better: bool | None = True
    over = "set"

    def __init__(self, bins: Annotated[int, Field(ge=2, le=10000)] = 100) -> None:
        self._output = self._target = torch.zeros(3, bins, dtype=torch.float64)

    def features(self, image: Tensor) -> Tensor:
        """The histograms [3, bins] of images [N, 3, H, W] in [0, 1], in pixels."""
        if image.shape[1] != 3:
            raise RecipeError(
                f"colours are those of images of 3 channels (sRGB); found {image.shape[1]}; leave the metric out"
            )
        if not image.isfinite().all():  # histc would pass over what is NaN
            return torch.full(self._output.shape, torch.nan)
        lab = lab_from_rgb(image.double()).transpose(0, 1).flatten(1)
        pairs = zip(lab, RANGES.values(), strict=True)
        counts = [values.clamp(low, high).histc(self._output.shape[1], low, high) for values, (low, high) in pairs]
        return torch.stack(counts)

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in the histograms [3, bins] of outputs and targets."""
        self._output, self._target = self._output + output, self._target + target

    def compute(self) -> dict[str, float]:
        """The intersections by name."""
        shares = (counts / counts.sum(1, keepdim=True) for counts in (self._output, self._target))
        found = torch.minimum(*shares).sum(1).tolist()
        return dict(zip(RANGES, found, strict=True))

    def reset(self) -> None:
        """Begin anew."""
        self._output = self._target = torch.zeros_like(self._output)
