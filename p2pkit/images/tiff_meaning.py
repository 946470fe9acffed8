"""What the tags of a TIFF say of its pixels: which number is white, which means nothing, what colours are meant in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffPage

from p2pkit.errors import DataError
from p2pkit.images.colour_profiles import profile_name
from p2pkit.images.pixels import FULL_SCALE, StoredPixels, stored

GDAL_NODATA, ICC_PROFILE = 42113, 34675
ALPHA = (1, 2)
"""What the tag of extra samples says of alpha: multiplied into the colours, or not."""
OF_PILLOW = 255
"""What a pixel and its inverse add up to where Pillow has inverted it, having multiplied few bits to fill 8."""


class Meaning(NamedTuple):
    """What a page says of its pixels."""

    inverted: int | None
    """What a number and its inverse add up to, where 0 is white; None where 0 is black."""
    nodata: float | None
    """GDAL's value for no data, as the file has it."""
    profile: str
    opaque: tuple[bool, ...]
    """For each sample of a pixel whether it is anything but alpha."""

    @classmethod
    def of(cls, page: TiffPage) -> Meaning:
        """What ``page`` says; raises DataError where it does not say what is white."""
        icc, extra = page.tags.valueof(ICC_PROFILE), tuple(page.extrasamples)
        opaque = (True,) * (page.samplesperpixel - len(extra)) + tuple(each not in ALPHA for each in extra)
        profile = profile_name(icc) if isinstance(icc, bytes) else ""
        return cls(_inverted(page), _number(page.tags.valueof(GDAL_NODATA)), profile, opaque)

    def pixels(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The pixels of the numbers [H, W, C] in the file: white is the highest, alpha stays as it is."""
        pixels = numbers
        if self.inverted is not None:
            pixels = np.asarray(self.inverted, numbers.dtype) - numbers
            if not all(self.opaque):
                pixels = np.where(np.resize(self.opaque, numbers.shape[2]), pixels, numbers)
        return stored(pixels, 0, self._nodata(pixels.dtype, self.inverted), self.profile, self.inverted)

    def described(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Pixels that Pillow has made of the file, with what is said of them."""
        bits, profile, indices = 0, "", None
        if isinstance(pixels, StoredPixels):
            bits, profile, indices = pixels.bits, pixels.profile, pixels.indices
        inverted, is_gray = None if self.inverted is None else OF_PILLOW, pixels.shape[2] == 1
        # of colours from a palette it is not known which were that number
        nodata = self._nodata(pixels.dtype, inverted, int(FULL_SCALE.get(bits, 1))) if is_gray else None
        return stored(pixels, bits, nodata, profile, inverted, indices)

    def _nodata(self, dtype: np.dtype[Any], inverted: int | None, factor: int = 1) -> float | None:
        """The value for no data as pixels of ``dtype`` have it; None where none of them can."""
        if self.nodata is None:
            return None
        value = self.nodata * factor if inverted is None else inverted - self.nodata * factor
        if dtype.kind != "f":
            limits = np.iinfo(dtype)
            return value if limits.min <= value <= limits.max and value.is_integer() else None
        limit = float(np.finfo(dtype).max)
        # what was meant as the largest float is often written as a text that is a little larger
        return float(dtype.type(value if np.isinf(value) else np.clip(value, -limit, limit)))


def _inverted(page: TiffPage) -> int | None:
    if page.photometric != PHOTOMETRIC.MINISWHITE:
        return None
    kind = page.dtype.kind if page.dtype is not None else ""
    if kind not in "iub":
        raise DataError(
            "its photometric interpretation is MINISWHITE, so 0 is white, but which floating-point number is black is "
            "not known; write it as MINISBLACK, with white the highest"
        )
    return -1 if kind == "i" else (1 << page.bitspersample) - 1


def _number(text: Any) -> float | None:
    """The number that GDAL has written as a text; None for what is not one."""
    try:
        return float(text.decode() if isinstance(text, bytes) else text)
    except (TypeError, ValueError, UnicodeError):
        return None
