"""How much outputs differ from each other, and within themselves: numbers by which a collapse is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from p2pkit.training.sample_grids import OUTPUT, TARGET, Row

THUMBNAIL = 32
"""The height and width at which images are compared, whatever their sizes are."""


def sample_statistics(rows: Sequence[Row]) -> dict[str, float]:
    """The spread and the contrast of the outputs in ``rows``, and those of the targets if they have any.

    ``output/spread`` is the standard deviation over images, of several alone, and ``output/contrast`` that over the
    pixels of an image; both are means, of values from 0 to 1.
    """
    found: dict[str, float] = {}
    for name in (OUTPUT, TARGET):
        images = [one for row in rows if (one := _image(row, name)) is not None]
        if images:
            found[f"{name}/contrast"] = _mean([image.std(dim=(1, 2), correction=0) for image in images])
        if len(images) > 1:
            small = torch.stack([F.adaptive_avg_pool2d(image, THUMBNAIL) for image in images])
            found[f"{name}/spread"] = float(small.std(dim=0, correction=0).mean())
    return found


def _image(row: Row, name: str) -> Tensor | None:
    """The image of a column, with values from 0 to 1."""
    columns: Mapping[str, Tensor] = dict(zip(row.columns, row.images, strict=False))
    return ((columns[name].detach().cpu().float() + 1) / 2).clamp(0, 1) if name in columns else None


def _mean(values: Sequence[Tensor]) -> float:
    return float(torch.cat(list(values)).mean())
