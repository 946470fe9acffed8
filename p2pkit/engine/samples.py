"""Sample grids: held-out sources, what the generator makes of them, and what they should become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from p2pkit.contracts import PairedDataset
from p2pkit.engine.loader import unit_pair
from p2pkit.images.grid import sample_grid
from p2pkit.images.transforms import PairTransform
from p2pkit.images.writing import write_image

ROWS = 4


def write_samples(
    file: Path, pairs: PairedDataset, transform: PairTransform, translate: Callable[[Tensor], Tensor]
) -> None:
    """Write a grid of source | output | target for the first few of ``pairs``."""
    rows = []
    for index in range(min(ROWS, len(pairs))):
        pair = pairs[index]
        source, target = transform.test(unit_pair(pair, pair))
        rows.append((source, translate(source[None])[0], target))
    write_image(file, sample_grid(rows))
