"""What all pairs of a data set have in common, and so how each becomes a pair of tensors."""

from __future__ import annotations

from typing import NamedTuple

from p2pkit.contracts import Pair, PairHeader, ValueRange
from p2pkit.data.augmentation import TensorPair
from p2pkit.errors import DataError
from p2pkit.images.pixels import to_unit


class PairForm(NamedTuple):
    """The ``first`` pair, whose channels all have, and each side's range of values; None for that of its type."""

    first: PairHeader
    source: ValueRange | None = None
    target: ValueRange | None = None

    def tensors(self, pair: Pair) -> TensorPair:
        """The two images of a pair as tensors in [-1, 1].

        Raises:
            DataError: they differ in size, or in channels from those of the first pair, or a value cannot be mapped.
        """
        refuse_unlike(pair.header, self.first)
        source = to_unit(pair.source, f"{pair.key}, its source", self.source)
        return source, to_unit(pair.target, f"{pair.key}, its target", self.target)


def refuse_unlike(pair: PairHeader, first: PairHeader) -> None:
    """Raise DataError when the images of a pair differ in size, or in channels from those of the ``first`` pair."""
    for side in ("source", "target"):
        found, expected = getattr(pair, side)[2], getattr(first, side)[2]
        if found != expected:
            raise DataError(
                f"{pair.key}: its {side} has {found} channels, that of {first.key} has {expected}; "
                "all pairs of a data set must agree"
            )
    if pair.source[:2] != pair.target[:2]:
        sizes = " and ".join(f"{height}x{width}" for height, width, _ in (pair.source, pair.target))
        raise DataError(f"{pair.key}: source and target differ in size (height x width): {sizes}")
