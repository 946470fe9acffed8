"""From what a generator gives to what is seen and written: colours get their lightness, values those of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.images.pixels import Reading, denormalize
from p2pkit.inference.model_header import ModelHeader


def picture_of(header: ModelHeader, output: Tensor, source: Tensor | None) -> Tensor:
    """An output [Ct, H, W] in [-1, 1] as a picture: as it is, or colours with the lightness of their source [Cs, H, W].

    ``source`` is of the output's size; only models of colours need it.
    """
    if (colours := header.colours) is None:
        return output
    assert source is not None
    return colours.picture(source[None], output[None])[0]


def to_pixels(header: ModelHeader, picture: Tensor) -> NDArray[Any]:
    """A picture [C, H, W] in [-1, 1] as pixels [H, W, C] of the target's type."""
    read, dtype = header.target_reading, np.dtype(header.target_dtype)
    if header.colours is not None:
        return denormalize(picture, dtype)
    reading = Reading(ranges=read.ranges, logarithmic=read.mapping == "logarithmic")
    return denormalize(picture, dtype, header.target_range, reading)
