"""Edges of images: Canny's (Canny 1986), and the slopes of Sobel's operator, which his begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.images.channels import Taking

Gray = NDArray[np.float64]
GRAY = Taking("gray")


def luminance(pixels: NDArray[Any], key: str) -> Gray:
    """The brightness [H, W], 0 to 1, of pixels [H, W, C] as stored: gray, or RGB by ITU-R BT.601, and perhaps alpha.

    Of 8 bits 255 is 1; of other types the lowest and the highest value of the image itself are 0 and 1.

    Raises:
        DataError: they have more channels; the message begins with ``key``.
    """
    gray: Gray = GRAY.of(pixels, key)[:, :, 0].astype(np.float64)
    if pixels.dtype == np.uint8:
        return gray / 255
    low, high = gray.min(), gray.max()
    return (gray - low) / (high - low) if high > low else np.zeros_like(gray)


def slopes(gray: Gray, sigma: float) -> tuple[Gray, Gray]:
    """How much the brightness rises downwards and to the right, [H, W] each, by Sobel's operator after a Gaussian blur.

    ``sigma`` is in pixels, 0 for none. A sharp step from 0 to 1 has the slope 1 where it is not blurred.
    """
    for axis in (0, 1):
        gray = _weighted(gray, axis, _gaussian(sigma))
    rise, smooth = np.array([-1.0, 0.0, 1.0]), np.array([0.25, 0.5, 0.25])
    return _weighted(_weighted(gray, 0, rise), 1, smooth), _weighted(_weighted(gray, 0, smooth), 1, rise)


def canny(gray: Gray, sigma: float, low: float, high: float) -> NDArray[np.bool_]:
    """Where the edges [H, W] of an image are, lines of one pixel.

    They are where the slope is highest across them, above ``low``, and connected to a place where it is above ``high``.
    """
    down, right = slopes(gray, sigma)
    strength = np.hypot(down, right)
    return _connected(_ridges(strength, down, right) & (strength > low), strength > high)


def _gaussian(sigma: float) -> Gray:
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    found: Gray = weights / weights.sum()
    return found


def _weighted(values: Gray, axis: int, weights: Gray) -> Gray:
    """The weighted sum of each pixel's neighbours along ``axis``; beyond the border the border goes on."""
    reach, size = len(weights) // 2, values.shape[axis]
    padding = [(0, 0), (0, 0)]
    padding[axis] = (reach, reach)
    padded, total = np.pad(values, padding, mode="edge"), np.zeros_like(values)
    for place, weight in enumerate(weights):
        part = slice(place, place + size)
        total += weight * (padded[part] if axis == 0 else padded[:, part])
    return total


def _ridges(strength: Gray, down: Gray, right: Gray) -> NDArray[np.bool_]:
    """Where the slope is at least as high as at both neighbours across the edge, in the nearest of four directions."""
    height, width = strength.shape
    padded = np.pad(strength, 1)
    direction = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    found = np.zeros(strength.shape, bool)
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        # where two are equal, one of them
        found |= (direction == number) & (strength >= ahead) & (strength > behind)
    return found


def _connected(candidates: NDArray[np.bool_], strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The candidates that are strong, or reach one that is by others."""
    width = candidates.shape[1] + 2
    open_places = np.pad(candidates, 1).ravel()
    front = np.flatnonzero(np.pad(candidates & strong, 1).ravel())
    found = np.zeros_like(open_places)
    around = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    while front.size:
        found[front], open_places[front] = True, False
        near = np.unique(front[:, None] + around)
        front = near[open_places[near]]
    return found.reshape(-1, width)[1:-1, 1:-1]
