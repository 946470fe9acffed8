"""Sample grids: held-out sources, what the generator makes of them, and what they should become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from p2pkit.contracts import Pair, PairedDataset
from p2pkit.engine.loader import unit_pair
from p2pkit.images.grid import sample_grid
from p2pkit.images.transforms import PairTransform
from p2pkit.images.writing import write_image

ROWS = 4


def write_samples(
    file: Path, pairs: PairedDataset, like: Pair, transform: PairTransform, translate: Callable[[Tensor], Tensor]
) -> None:
    """Write a grid of source | output | target for a few of ``pairs``, spread evenly; ``like`` has their channels."""
    rows = []
    count = min(ROWS, len(pairs))
    for row in range(count):
        pair = pairs[row * len(pairs) // count]
        source, target = transform.test(unit_pair(pair, like))
        rows.append((source, translate(source[None])[0], target))
    write_image(file, sample_grid(rows))
