"""Pixels as stored to tensors in [-1, 1], and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.contracts import ValueRange, dtype_range
from p2pkit.errors import DataError, counted

if TYPE_CHECKING:
    NDArrayOfAny = NDArray[Any]
else:
    NDArrayOfAny = np.ndarray

FULL_SCALE: Mapping[int, np.uint8] = {1: np.uint8(255), 2: np.uint8(85), 4: np.uint8(17)}
"""By what values of so few bits are multiplied to fill 8."""
LARGEST_CHANNELS_FIRST, SMALLEST_SIDE, SIDES_A_CHANNEL = 32, 16, 4
"""An array [c, h, w] of at most so many channels, at least so many pixels a side, and so many times as many pixels a
side as channels can hardly be [H, W, C]."""


class StoredPixels(NDArrayOfAny):
    """Pixels [H, W, C], with what their file says of them beside the values.

    Parts and copies of them keep it, what is computed of them does not: it would not be true of other values.
    """

    bits: int = 0
    """1, 2 or 4 where the file has values of so few bits, which were multiplied to fill 8; else 0."""
    nodata: float | None = None
    """The value that means "nothing here" (GDAL's nodata), as pixels have it; None where none of them can."""
    profile: str = ""
    """What the colours of the file are meant in (the name of its ICC profile ...), unless it is sRGB; else empty."""
    inverted: int | None = None
    """Where the file has 0 for white: what a pixel and the number that the file has for it add up to; else None."""
    taken: str = ""
    """What has been taken of the file's channels, where it cannot be taken of itself again ("lab_L"); else empty."""
    indices: NDArray[Any] | None = None
    """The numbers [H, W] of the colours in the file's palette, where pixels are colours of one; else None. Parts that
    are made by slices of rows and columns keep theirs, whatever else is made of pixels has none."""

    def __array_finalize__(self, origin: Any) -> None:
        """Take over what ``origin``, of which this is a view or a part, says."""
        for name in ("bits", "nodata", "profile", "inverted", "taken"):
            setattr(self, name, getattr(origin, name, getattr(type(self), name)))

    def __getitem__(self, place: Any) -> Any:
        """What NumPy gives for ``place``, with the numbers in the palette that belong there."""
        found = super().__getitem__(place)
        if self.indices is not None and isinstance(found, StoredPixels):
            places = place if isinstance(place, tuple) else (place,)
            # who takes some of the channels means their values
            if all(isinstance(each, slice) for each in places) and places[2:] in ((), (slice(None),)):
                found.indices = self.indices[places[:2]]
        return found

    def __array_wrap__(self, values: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What NumPy gives for ``values`` that it has computed of pixels: a plain array, or a number."""
        return values[()] if return_scalar else np.asarray(values)


def stored(
    pixels: NDArray[Any], bits: int = 0, nodata: float | None = None, profile: str = "", inverted: int | None = None,
    indices: NDArray[Any] | None = None, taken: str = "",
) -> NDArray[Any]:  # fmt: skip
    """``pixels`` with what their file says of them (see :class:`StoredPixels`); as they are where it says nothing."""
    if not bits and nodata is None and not profile and inverted is None and indices is None and not taken:
        return np.asarray(pixels)
    described = np.asarray(pixels).view(StoredPixels)
    described.bits, described.nodata, described.profile, described.inverted = bits, nodata, profile, inverted
    described.indices, described.taken = indices, taken
    return described


def described_like(pixels: NDArray[Any], origin: NDArray[Any]) -> NDArray[Any]:
    """``pixels``, made of those of ``origin``, with what the file of ``origin`` says of them."""
    if not isinstance(origin, StoredPixels):
        return pixels
    return stored(pixels, origin.bits, origin.nodata, origin.profile, origin.inverted, origin.indices)


def channel_by_channel(pixels: NDArray[Any]) -> NDArray[Any]:
    """A copy of pixels [H, W, C] that has one channel after another in memory, as :func:`normalize` takes them."""
    found = pixels.transpose(2, 0, 1).copy().transpose(1, 2, 0)
    if isinstance(pixels, StoredPixels):
        vars(found).update(indices=pixels.indices)
    return found


def as_indices(pixels: NDArray[Any]) -> NDArray[Any]:
    """The numbers of a label map as its file has them: not multiplied to fill 8 bits, not inverted, no colours."""
    if not isinstance(pixels, StoredPixels):
        return pixels
    if pixels.indices is not None:
        return pixels.indices[:, :, None]
    numbers = np.asarray(pixels if pixels.inverted is None else pixels.inverted - pixels)
    return numbers // FULL_SCALE[pixels.bits].astype(numbers.dtype) if pixels.bits else numbers


def not_an_image(shape: Sequence[int], channels_first: bool = False) -> str:
    """What is wrong with the shape of an array as an image, and what to do; empty if it can be one.

    It is to be [H, W] or [H, W, C], with ``channels_first``, as tensors are, [H, W] or [C, H, W].
    """
    if len(shape) == 4 and shape[0] == 1:
        return "expected one image, not a batch of one; give that image alone, array[0]"
    if len(shape) != 3:
        return ""
    channels, *sides = shape[::-1] if channels_first else shape
    if channels > LARGEST_CHANNELS_FIRST or min(sides) < max(SMALLEST_SIDE, SIDES_A_CHANNEL * channels):
        return ""
    if channels_first:
        return "its channels come last; tensors are [C, H, W], so give tensor.permute(2, 0, 1)"
    return "its channels come first; arrays are [H, W, C], so give numpy.moveaxis(array, 0, -1)"


def refuse_unclear(image: NDArray[Any] | Tensor, what: str) -> None:
    """Raise DataError, beginning with ``what``, for an array or tensor that can hardly be the image it is given as."""
    wrong = not_an_image(image.shape, isinstance(image, Tensor))
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        wrong = "some of its values are masked, and masks are not taken, so fill them, array.filled(0)"
    if wrong:
        raise DataError(f"{what} of shape {tuple(image.shape)}: {wrong}")


class Reading(NamedTuple):
    """How the stored values of one source, or of targets, are read, beside the range that becomes [-1, 1]."""

    nodata: float | None = None
    """The value that means "nothing here", beside the one that a file names; NaN for NaN."""
    fill: float | None = None
    """What takes the place of such values; None: pixels with some cannot be used."""
    masked: bool = False
    """Such values do not count. They are 0 in [-1, 1] where there is no ``fill``."""
    ranges: tuple[ValueRange, ...] = ()
    """The range of each channel, where they differ; the one given for all then spans these."""
    logarithmic: bool = False
    """Equal ratios of values, not equal differences, become equal differences."""

    def share(self, held: ValueRange, values: ValueRange) -> float:
        """The share of [-1, 1], which ``values`` (low, high) become, that is between the two values ``held``."""
        if not self.logarithmic:
            return (held[1] - held[0]) / (values[1] - values[0])
        inside = (math.log(min(max(value, values[0]), values[1])) for value in (*held, *values))
        first, last, low, high = inside
        return (last - first) / (high - low)


PLAIN_READING = Reading()


class Remedies(NamedTuple):
    """What messages say is to be done, and where, about values that cannot be mapped."""

    range: str = "set range or percentiles in the recipe's [source] or [target]"
    """About values of no known range."""
    fill: str = (
        "set fill in the recipe's [source] (of several, [source.NAME]) or [target] to the value that shall stand "
        'there, or mask = "nodata" to leave it out of losses'
    )
    """About values that mean "nothing here"."""
    not_finite: str = (
        'mend the file, or let NaN mean that nothing is there: nodata = "nan", and fill, in the recipe\'s [source] (of '
        "several, [source.NAME]) or [target]"
    )
    """About NaN and infinite values."""


IN_THE_RECIPE = Remedies()


def nothing_there(pixels: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Where pixels [H, W, C] have the value ``nodata``, or the one that their file names; None where they do not."""
    found = np.zeros(pixels.shape, bool)
    for value in (nodata, getattr(pixels, "nodata", None)):
        if value is not None and pixels.dtype.kind == "f":
            # as floats of the file have it: -3.4028235e+38 in a tag has more digits than float32
            found |= np.isnan(pixels) if np.isnan(value) else np.asarray(pixels) == pixels.dtype.type(value)
        elif value is not None:
            found |= np.asarray(pixels) == value
    return found if found.any() else None


def with_filled(
    pixels: NDArray[Any], where: NDArray[np.bool_], key: str, reading: Reading, remedy: str = IN_THE_RECIPE.fill
) -> NDArray[Any]:
    """Pixels with what ``reading`` puts in the place of values that mean "nothing here", which are ``where``.

    Raises:
        DataError: there is nothing to put there; the message begins with ``key`` and ends with ``remedy``.
    """
    if reading.fill is None and reading.masked:
        filled = np.array(pixels)
        filled[where] = filled[~where].flat[0] if not where.all() else 0  # any value will do
        return filled
    if reading.fill is None:
        named = ", ".join(
            f"{value:g}" for value in (reading.nodata, getattr(pixels, "nodata", None)) if value is not None
        )
        raise DataError(
            f"{key}: {np.count_nonzero(where)} of its {where.size} values mean that nothing is there (nodata {named}); "
            f"{remedy}"
        )
    filled, limits = np.array(pixels), np.iinfo(pixels.dtype) if pixels.dtype.kind in "iu" else None
    if limits and not (float(reading.fill).is_integer() and limits.min <= reading.fill <= limits.max):
        raise DataError(
            f"{key}: fill = {reading.fill:g} is not a value of its type, {pixels.dtype}; choose one that is"
        )
    filled[where] = reading.fill
    return filled


def normalize(
    pixels: NDArray[Any], key: str, values: ValueRange | None = None, reading: Reading = PLAIN_READING,
    remedies: Remedies = IN_THE_RECIPE,
) -> Tensor:  # fmt: skip
    """Pixels [H, W, C] as a float32 tensor [C, H, W] in [-1, 1]: ``values`` (low, high) become -1 and 1.

    What lies outside a given range is clipped to it. Without one it is that of the pixels' type, and clips nothing.
    ``reading`` says which values mean "nothing here", which range each channel has, and whether logarithms count. The
    arithmetic is float32 for pixels of up to 16 bits, else float64.

    Raises:
        DataError: there are NaN or infinite pixels, values that mean "nothing here" and nothing to fill them with, or
            no range is given and floats lie outside [0, 1] or the type has no range of its own; the message begins
            with ``key`` and ends with what ``remedies`` say.
    """
    where = None
    if reading.nodata is not None or getattr(pixels, "nodata", None) is not None:
        where = nothing_there(pixels, reading.nodata)
        pixels = pixels if where is None else with_filled(pixels, where, key, reading, remedies.fill)
    if pixels.dtype.kind == "f":
        refuse_not_finite(pixels, key, remedies.not_finite)
    try:
        low, high = values or dtype_range(pixels.dtype)
    except KeyError as error:
        raise DataError(f"{key}: pixels of type {pixels.dtype} have no range of their own; {remedies.range}") from error
    # integers are within what their type holds
    if values is None and pixels.dtype.kind not in "iu" and not low <= pixels.min() <= pixels.max() <= high:
        found = f"{pixels.min()} to {pixels.max()}"
        raise DataError(f"{key}: floating-point pixels must lie in [0, 1]; found {found}. For others {remedies.range}")
    precise = torch.float64 if pixels.dtype.itemsize > 2 else torch.float32
    planes = pixels.transpose(2, 0, 1)
    # few bytes are faster to rearrange than the floats that they become
    planes = np.ascontiguousarray(planes) if precise is torch.float32 else planes
    # a copy, whatever the pixels are: they are changed in place below
    tensor = torch.from_numpy(np.array(planes, dtype=np.float64 if precise is torch.float64 else np.float32, order="C"))
    if reading.ranges or reading.logarithmic:
        _scale(tensor, key, reading.ranges or ((low, high),), reading.logarithmic)
        tensor.clamp_(-1.0, 1.0)
    else:
        # without a range that is given, none lies outside
        to_unit_range(tensor, (low, high), clips=values is not None)
    tensor = tensor.float()
    if where is None or reading.fill is not None:
        return tensor
    return tensor.masked_fill_(torch.from_numpy(where.transpose(2, 0, 1)), 0.0)


def to_unit_range(tensor: Tensor, values: ValueRange, clips: bool = True) -> Tensor:
    """``tensor``, changed in place: ``values`` (low, high) become -1 and 1; it ``clips`` what lies outside."""
    low, high = values
    tensor = tensor.sub_(low) if low else tensor
    tensor = tensor.mul_(2.0 / (high - low)).sub_(1.0)
    return tensor.clamp_(-1.0, 1.0) if clips else tensor


def _scale(tensor: Tensor, key: str, ranges: Sequence[ValueRange], logarithmic: bool) -> None:
    """Map values [C, H, W] in place: each channel's range, or the one of all, becomes [-1, 1]."""
    if len(ranges) not in (1, len(tensor)):
        found = f"it has {counted(len(tensor), 'channel')}, and there are ranges for {len(ranges)}"
        raise DataError(f"{key}: {found}; set range to one for all, or to one for each")
    for channel, (low, high) in zip(tensor, ranges if len(ranges) > 1 else [*ranges] * len(tensor), strict=True):
        if logarithmic:
            if low <= 0:
                raise DataError(
                    f'{key}: mapping = "logarithmic" takes a range above 0, and this one begins at {low:g}; set range'
                )
            channel.clamp_(low, high).log_()
            low, high = math.log(low), math.log(high)
        channel.sub_(low).mul_(2.0 / (high - low)).sub_(1.0)


def refuse_not_finite(pixels: NDArray[Any], key: str, remedy: str = IN_THE_RECIPE.not_finite) -> None:
    """Raise DataError, beginning with ``key`` and ending with ``remedy``, when pixels are NaN or infinite."""
    if pixels.dtype.kind == "f" and (count := int(np.count_nonzero(~np.isfinite(pixels)))):
        raise DataError(f"{key}: {count} of its {pixels.size} values are not finite (NaN or infinite); {remedy}")


def denormalize(
    tensor: Tensor, dtype: np.dtype[Any], values: ValueRange | None = None, reading: Reading = PLAIN_READING
) -> NDArray[Any]:
    """A tensor [C, H, W] in [-1, 1] as pixels [H, W, C] of ``dtype`` in the range ``values``, or that of the type.

    What lies outside [-1, 1] is clipped; integers are rounded to the nearest. ``reading`` as for :func:`normalize`.
    """
    ranges = np.array(reading.ranges or [values or dtype_range(dtype)])
    unit = tensor.detach().to("cpu", torch.float32).clamp(-1.0, 1.0).numpy().transpose(1, 2, 0)
    low, high = (np.log(ranges) if reading.logarithmic else ranges).T
    scaled: NDArray[Any] = (unit.astype(np.float64) + 1.0) * ((high - low) / 2.0) + low
    if reading.logarithmic:
        scaled = np.exp(scaled)
    return (scaled if dtype.kind == "f" else np.rint(scaled)).astype(dtype)
