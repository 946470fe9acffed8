"""CIELAB (CIE 1976, white D65) of sRGB and back: the lightness L, and the colours a and b."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.contracts import ValueRange
from p2pkit.images.pixels import Reading, Remedies, normalize, stored
from p2pkit.settings import LAB_AB, LAB_L

XYZ_FROM_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""Of linear sRGB (ITU-R BT.709 primaries)."""
WHITE = (0.95047, 1.0, 1.08883)
"""D65, for the observer of 2 degrees."""
_REMEDIES = Remedies(
    range="Lab is of colours from 0 to all that an integer of up to 32 bits holds, or 0 to 1 of floats; convert it",
    not_finite="mend the file",
)


def lab_from_rgb(image: Tensor) -> Tensor:
    """Images [N, 3, H, W] of sRGB in [0, 1] as CIELAB: L in [0, 100], a and b around 0; in their own precision."""
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)  # IEC 61966-2-1
    xyz = torch.einsum("ij,njhw->nihw", image.new_tensor(XYZ_FROM_RGB), linear) / _white(image)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def rgb_from_lab(image: Tensor) -> Tensor:
    """Images [N, 3, H, W] of CIELAB as sRGB in [0, 1], to which colours that it does not have are clipped."""
    lightness, a, b = image.unbind(1)
    y = (lightness + 16) / 116
    # no less of Z than black has, as scikit-image has it, by which the reference implementation converts
    roots = torch.stack([y + a / 500, y, (y - b / 200).clamp(min=0)], dim=1)
    xyz = torch.where(roots > 0.2068966, roots**3, (roots - 16 / 116) / 7.787) * _white(image)
    inverse = torch.tensor(XYZ_FROM_RGB, dtype=torch.float64).inverse().to(image)
    linear = torch.einsum("ij,njhw->nihw", inverse, xyz)
    curved = 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear).clamp(0, 1)


def lab_pixels(pixels: NDArray[Any], key: str, taken: str) -> NDArray[Any]:
    """The lightness [H, W, 1] or the colours a and b [H, W, 2] of pixels [H, W, 1 or 3] of sRGB or gray, in float32.

    ``taken`` is "lab_L" or "lab_ab". Where pixels mean "nothing here" the values mean nothing.

    Raises:
        DataError: they are NaN, infinite, or of no range of their own; the message begins with ``key``.
    """
    image = normalize(pixels, key, reading=Reading(masked=True), remedies=_REMEDIES)
    lab = lab_from_rgb(((image + 1) / 2).expand(3, -1, -1)[None])[0]
    values = (lab[:1] if taken == LAB_L else lab[1:]).permute(1, 2, 0).contiguous().numpy()
    return stored(values, profile=getattr(pixels, "profile", ""), taken=taken)


class Colours(NamedTuple):
    """How the a and b that a network gives become a picture: with the lightness of its source."""

    channel: int
    """Which channel of sources is their lightness."""
    lightness: ValueRange
    """The L that are -1 and 1 in sources."""
    ab: ValueRange
    """The a and b that are -1 and 1 in outputs and targets."""

    @classmethod
    def of(
        cls, target: str | None, ab: ValueRange, sources: Iterable[tuple[str | None, int, ValueRange]]
    ) -> Colours | None:
        """What is taken of targets' files, its range, and the same of each source with its channels between.

        None where targets are pictures themselves.

        Raises:
            ValueError: no source is the lightness.
        """
        if target != LAB_AB:
            return None
        channel = 0
        for taken, channels, values in sources:
            if taken == LAB_L:
                return cls(channel, values, ab)
            channel += channels
        raise ValueError(f'targets are "{LAB_AB}", and no source is "{LAB_L}", whose lightness goes with these colours')

    def picture(self, source: Tensor, image: Tensor) -> Tensor:
        """Outputs or targets [N, 2, H, W] beside their sources [N, Cs, H, W] as sRGB [N, 3, H, W], all in [-1, 1]."""
        (dark, light), (low, high) = self.lightness, self.ab
        lightness = (source[:, self.channel :][:, :1].to(image) + 1) / 2 * (light - dark) + dark
        ab = (image.clamp(-1, 1) + 1) / 2 * (high - low) + low
        return rgb_from_lab(torch.cat([lightness, ab], dim=1)) * 2 - 1

    def gray(self, source: Tensor) -> Tensor:
        """What outputs [N, 2, H, W] would be of a picture of lightness alone, for sources [N, Cs, H, W]."""
        low, high = self.ab
        count, _, height, width = source.shape
        return source.new_full((count, 2, height, width), -(low + high) / (high - low))


def _white(image: Tensor) -> Tensor:
    return image.new_tensor(WHITE)[:, None, None]
