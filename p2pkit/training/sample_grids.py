"""Sample grids: sources of the validation set, what the generator makes of them, and what they should become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from p2pkit.data.augmentation import Augmentation
from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.data.samples import Samples, SampleSpec
from p2pkit.images.pixels import denormalize
from p2pkit.images.writing import write_picture
from p2pkit.settings import BadData

ROWS = 4


def write_samples(
    file: Path, samples: Samples, spec: SampleSpec, augmentation: Augmentation, bad_data: BadData,
    translate: Callable[[Tensor], Tensor], picture: Callable[[Tensor], Tensor] | None,
) -> list[str]:  # fmt: skip
    """Write a grid of source | output | target for a few of ``samples``, spread evenly; unpaired ones have no target.

    ``picture`` makes pictures [1, 3, H, W] of sources that are none themselves. Returns the messages on samples that
    could not be used and were skipped.
    """
    rows: list[list[Tensor]] = []
    skipped: list[str] = []
    count = min(ROWS, len(samples))
    skipping = SkipBadSamples(len(samples), bad_data)
    for row in range(count):
        (source, target), found_bad = skipping.first_usable(
            row * len(samples) // count, lambda index: augmentation.test(spec.tensors(samples[index]))
        )
        skipped += found_bad
        shown = picture(source[None])[0] if picture else source
        rows.append([shown, translate(source[None])[0], *([target] if samples.targets is None else [])])
    write_picture(file, sample_grid(rows))
    return skipped


def sample_grid(rows: Sequence[Sequence[Tensor]], gap: int = 4) -> NDArray[np.uint8]:
    """A picture [H, W, 3] uint8 of rows of tensors [C, H, W] in [-1, 1], white between them.

    The tensors of a row have one size; rows of different sizes are put below one another, widened to the widest.
    """
    strips = [make_grid([as_rgb(image) for image in row], nrow=len(row), padding=gap, pad_value=1.0) for row in rows]
    width = max(strip.shape[2] for strip in strips)
    widened = [torch.nn.functional.pad(strip, (0, width - strip.shape[2]), value=1.0) for strip in strips]
    return denormalize(torch.cat(widened, dim=1), np.dtype(np.uint8))


def as_rgb(image: Tensor) -> Tensor:
    """An image [C, H, W] with any number of channels as [3, H, W]: gray is repeated, the first three stand for more."""
    image = image.detach().cpu().float()
    return image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
