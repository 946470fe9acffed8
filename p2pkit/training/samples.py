"""Sample grids: held-out sources, what the generator makes of them, and what they should become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from p2pkit.contracts import PairedDataset
from p2pkit.data.augmentation import PairTransform
from p2pkit.data.bad_samples import Substitution
from p2pkit.images.grid import sample_grid
from p2pkit.images.writing import write_image
from p2pkit.settings import BadData
from p2pkit.training.pair_form import PairForm

ROWS = 4


def write_samples(
    file: Path, pairs: PairedDataset, form: PairForm, transform: PairTransform, bad_data: BadData,
    translate: Callable[[Tensor], Tensor], picture: Callable[[Tensor], Tensor] | None,
) -> list[str]:  # fmt: skip
    """Write a grid of source | output | target for a few of ``pairs``, spread evenly.

    ``picture`` makes pictures [1, 3, H, W] of sources that are none themselves. Returns the messages on pairs that
    could not be used and were left out.
    """
    rows, left_out = [], []
    count = min(ROWS, len(pairs))
    substitution = Substitution(len(pairs), bad_data)
    for row in range(count):
        (source, target), found_bad = substitution.first_usable(
            row * len(pairs) // count, lambda index: transform.test(form.tensors(pairs[index]))
        )
        left_out += found_bad
        shown = picture(source[None])[0] if picture else source
        rows.append((shown, translate(source[None])[0], target))
    write_image(file, sample_grid(rows))
    return left_out
