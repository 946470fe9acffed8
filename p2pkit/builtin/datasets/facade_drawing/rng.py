"""Random choices that come out the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Rng:
    """A stream of choices that the integers of its key determine.

    Only ``random`` and ``integers`` are drawn, and the drawing made from them adds, multiplies, divides, takes square
    roots and rounds down: IEEE 754 fixes those to the last bit, while sines, exponentials, matrix products and long
    floating-point sums vary with the processor and the NumPy build, and would give every machine its own data set.
    """

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self._generator.random())

    def whole(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return int(self._generator.integers(low, high + 1, dtype=np.int64))

    def flip(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self._generator.random()) < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; list one twice to make it twice as likely."""
        return options[self.whole(0, len(options) - 1)]

    def bytes(self, *shape: int) -> NDArray[np.uint8]:
        """An array of bytes, each value as likely as any other."""
        return self._generator.integers(0, 256, shape, dtype=np.uint8)
