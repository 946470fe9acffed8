"""What the numbers of single images say: confidence intervals, the best and the worst, how far samples differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from torch import Tensor

from p2pkit.evaluation.driver import ImageScores

RESAMPLES, LEVEL = 2000, 0.95


def bootstrap_intervals(images: Sequence[ImageScores], row: str) -> dict[str, tuple[float, float]]:
    """The interval of each number's mean over other such sets of images, with 95% confidence (Efron 1979).

    Percentiles of the means of 2000 resamples, the same each time. Nothing for a single image, which has no spread, and
    for numbers that are not finite.
    """
    found = {}
    for name in images[0].rows[row] if len(images) > 1 else ():
        values = np.array([image.rows[row][name] for image in images])
        if np.isfinite(values).all():
            rng = np.random.default_rng(0)
            means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
            low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found[name] = float(low), float(high)
    return found


def ranked(images: Sequence[ImageScores], row: str, name: str, higher_is_better: bool) -> list[str]:
    """The keys of images from the best to the worst by a number; those where it is NaN come last."""

    def badness(image: ImageScores) -> float:
        value = image.rows[row][name]
        return math.inf if math.isnan(value) else -value if higher_is_better else value

    return [image.key for image in sorted(images, key=badness)]


def mean_pairwise(distance: Callable[[Tensor, Tensor], float], samples: Sequence[Tensor]) -> float:
    """The mean distance between two of the samples [1, C, H, W] (Zhu et al. 2017, section 5)."""
    distances = [distance(one, other) for one, other in combinations(samples, 2)]
    return math.fsum(distances) / len(distances)
