"""Ranges of values that a recipe asks to be found: percentiles of more pixel values than memory holds."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import ValueRange
from p2pkit.data.augmentation import refuse_unlike
from p2pkit.data.checks import SampleRef, sample_refs, scan
from p2pkit.data.sets import Data
from p2pkit.errors import DataError
from p2pkit.images.pixels import nothing_there, refuse_not_finite


def find_percentiles(data: Data, wanted: Mapping[str, tuple[float, float]]) -> dict[str, ValueRange]:
    """The range between the ``wanted`` percentiles of each side, over all training samples, which are read twice.

    Raises:
        DataError: a pair cannot be read and the policy is to stop, none can, or all values of a side are the same.
    """
    searches = {side: Percentiles(percentiles) for side, percentiles in wanted.items()}
    if not searches:
        return {}
    nodata = {side: data.values[side].reading.nodata for side in searches}

    def add(ref: SampleRef) -> bool:
        there: dict[str, NDArray[Any]] = {}
        try:
            sample = data.sets[ref.place][ref.number]
            refuse_unlike(sample.header, data.first.header, data.to_one_size)
            for side in searches:
                if (image := sample.image(side)) is not None:
                    where = nothing_there(image, nodata[side])
                    there[side] = np.asarray(image) if where is None else np.asarray(image)[~where]
                    refuse_not_finite(there[side], f"{sample.key}, its {side}")
        except DataError:
            if data.bad_data == "stop":
                raise
            return False
        for side, values in there.items():
            searches[side].add(values)
        return True

    trained = [ref for ref in sample_refs(data) if data.sets[ref.place].split == "train"]
    threads = 1 if data.train.draws() else None
    if not any(list(scan("finding the range of values", trained, add, threads))):
        raise DataError("percentiles: none of the training pairs can be read")
    for search in searches.values():
        search.read_again()
    list(scan("finding it exactly", trained, add, threads))
    return {side: _range(side, wanted[side], search) for side, search in searches.items()}


def _range(side: str, wanted: tuple[float, float], search: Percentiles) -> ValueRange:
    low, high = search.found()
    if not -math.inf < low < high < math.inf:
        raise DataError(
            f"{side}.percentiles: percentiles {wanted[0]:g} and {wanted[1]:g} of the training pairs are {low:g} and "
            f"{high:g}, which is not a range; choose others, or set {side}.range"
        )
    return low, high


HALF = 16
"""Bits of a key that are counted in one reading of the values, of 32."""


class Percentiles:
    """Finds percentiles in two readings of the same values, exactly (as float32), in memory that does not grow.

    The first reading counts the upper halves of order-preserving keys, the second the lower halves of those values
    whose upper half is that of a percentile. A percentile q is the smallest value that at least q % of all values do
    not exceed (NumPy's method "inverted_cdf"). Values may be added by several threads; their order does not matter.
    """

    def __init__(self, wanted: Sequence[float]) -> None:
        self._wanted = wanted
        self._upper = np.zeros(1 << HALF, dtype=np.int64)
        self._lower: dict[int, NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def add(self, pixels: NDArray[Any]) -> None:
        """Take in pixels of any shape, finite."""
        keys = _keys(pixels)
        upper = keys >> HALF
        if not self._lower:
            counts = np.bincount(upper, minlength=1 << HALF)
            with self._lock:
                self._upper += counts
            return
        for half, total in self._lower.items():
            counts = np.bincount(keys[upper == half] & ((1 << HALF) - 1), minlength=1 << HALF)
            with self._lock:
                total += counts

    def read_again(self) -> None:
        """End the first reading; the same values are to follow a second time."""
        self._lower = {self._place(rank)[0]: np.zeros(1 << HALF, dtype=np.int64) for rank in self._ranks()}

    def found(self) -> list[float]:
        """The percentiles, after the second reading."""
        return [self._value(rank) for rank in self._ranks()]

    def _ranks(self) -> list[int]:
        """How many values come before each percentile, if all stood in order."""
        total = int(self._upper.sum())
        assert total
        return [max(0, math.ceil(wanted * total / 100) - 1) for wanted in self._wanted]

    def _place(self, rank: int) -> tuple[int, int]:
        """The upper half of the value at ``rank``, and its rank among those of the same upper half."""
        sums = np.cumsum(self._upper)
        half = int(np.searchsorted(sums, rank, side="right"))
        return half, rank - int(sums[half] - self._upper[half])

    def _value(self, rank: int) -> float:
        half, rest = self._place(rank)
        low = int(np.searchsorted(np.cumsum(self._lower[half]), rest, side="right"))
        key = np.uint32(half << HALF | low)
        bits = key ^ np.uint32(0x80000000) if key >> np.uint32(31) else ~key
        return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])


def _keys(pixels: NDArray[Any]) -> NDArray[np.uint32]:
    """Values as float32, and these as integers in the same order."""
    bits = np.ascontiguousarray(pixels, dtype=np.float32).ravel().view(np.uint32)
    negative = (bits >> np.uint32(31)).astype(bool)
    return np.where(negative, ~bits, bits | np.uint32(0x80000000))
