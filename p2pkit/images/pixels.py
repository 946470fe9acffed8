"""Pixels as stored to tensors in [-1, 1], and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.contracts import dtype_range
from p2pkit.errors import DataError


def to_unit(pixels: NDArray[Any], key: str) -> Tensor:
    """Pixels [H, W, C] (uint8, uint16, or float in [0, 1]) as a float32 tensor [C, H, W] in [-1, 1].

    Raises:
        DataError: another type of pixel, or floats outside [0, 1]; the message begins with ``key``.
    """
    try:
        low, high = dtype_range(pixels.dtype)
    except KeyError as error:
        raise DataError(f"{key}: pixels of type {pixels.dtype}; expected uint8, uint16, or float in [0, 1]") from error
    # a copy, whatever the pixels are: they are changed in place below
    values = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), dtype=np.float32, order="C"))
    if pixels.dtype.kind == "f" and not bool(((values >= low) & (values <= high)).all()):
        raise DataError(f"{key}: floating-point pixels must lie in [0, 1]; found {pixels.min()} to {pixels.max()}")
    return values.sub_(low).mul_(2.0 / (high - low)).sub_(1.0)


def from_unit(tensor: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A tensor [C, H, W] in [-1, 1] as pixels [H, W, C] of ``dtype``, clipped to its range and rounded to nearest."""
    low, high = dtype_range(dtype)
    values = tensor.detach().to("cpu", torch.float32).clamp(-1.0, 1.0).numpy().transpose(1, 2, 0)
    scaled = (values.astype(np.float64) + 1.0) * ((high - low) / 2.0) + low
    return (scaled if dtype.kind == "f" else np.rint(scaled)).astype(dtype)
