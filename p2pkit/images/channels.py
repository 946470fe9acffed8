"""Which channels of stored pixels are taken: colours or gray, the first ones, with or without alpha, a palette."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import Sample, SampleHeader, Shape, dtype_range
from p2pkit.errors import DataError, counted
from p2pkit.images.formats import ChannelsOfPalette
from p2pkit.images.lab import lab_pixels
from p2pkit.images.pixels import StoredPixels, as_indices, nothing_there, stored
from p2pkit.settings import LAB_AB, LAB_RANGES

LUMA = np.array([0.299, 0.587, 0.114])
"""The shares of red, green and blue in gray (ITU-R BT.601)."""
COLOURS: Mapping[str, str] = {"white": "#ffffff", "black": "#000000"}


class Taking(NamedTuple):
    """What of a file's channels is taken (settings.SideSettings)."""

    channels: str | None = None
    """ "rgb", "gray", "first N", "lab_L" or "lab_ab"; None for all."""
    alpha: str | None = None
    """What becomes of alpha, the last of 2 or 4 channels: "drop", or the colour that is put behind it."""
    palette: str | None = None
    """ "indices" for the numbers in a palette, "labels" for these where there is one; else its colours."""
    nodata: float | None = None
    """As for a Reading: what is computed of such a value is that value."""

    def of(self, pixels: NDArray[Any], key: str) -> NDArray[Any]:
        """What is taken of pixels [H, W, C] as stored.

        Raises:
            DataError: they have no such channels; the message begins with ``key``.
        """
        if isinstance(pixels, StoredPixels) and pixels.taken and pixels.taken == self.channels:
            return pixels
        if self.palette in ("indices", "labels"):
            pixels = as_indices(pixels)
            if self.palette == "indices" and pixels.shape[2] != 1:
                raise DataError(
                    f'{key}: palette = "indices", but it has {counted(pixels.shape[2], "channel")} and no palette'
                )
        if self.channels is None and self.alpha is None:
            return pixels
        wanted = self.taken(pixels.shape[2], key)
        made = self._without_alpha(pixels)
        # alpha, and channels that are not taken, may well hold the number that means nothing elsewhere
        where = nothing_there(pixels[:, :, : self._first or made.shape[2]], self.nodata)
        if self.channels and self.channels in LAB_RANGES:
            made = lab_pixels(made, key, self.channels)
        elif self.channels == "gray" and made.shape[2] == 3:
            made = _as(np.asarray(made, np.float64) @ LUMA, pixels.dtype)[:, :, None]
        elif made.shape[2] < wanted:
            made = np.repeat(made, wanted, axis=2)
        made = made[:, :, :wanted]
        if where is not None:  # what was computed of it would pass for a value
            value = self.nodata if self.nodata is not None else getattr(pixels, "nodata", None)
            assert value is not None
            profile, taken = getattr(made, "profile", ""), getattr(made, "taken", "")
            value = math.nan if taken else value  # any number may be a value of Lab
            made = stored(np.array(made), nodata=value, profile=profile, taken=taken)
            made[where.any(axis=2)] = value
        return made

    def taken(self, found: int, key: str) -> int:
        """How many channels are taken of so many; a DataError where that cannot be."""
        if self.palette in ("indices", "labels") and isinstance(found, ChannelsOfPalette):
            return 1
        if self._first:
            if found < self._first:
                raise DataError(
                    f'{key}: it has {counted(found, "channel")}, and channels = "{self.channels}" takes {self._first}'
                )
            return self._first
        if self.channels is not None and found > 4:
            raise DataError(
                f'{key}: it has {found} channels, and channels = "{self.channels}" is for 1 to 4 (gray or RGB, with '
                'alpha or without); take "first 3", say'
            )
        if self.channels == LAB_AB and found < 3:
            raise DataError(
                f'{key}: it is gray, and channels = "{LAB_AB}" takes colours; leave such files out, or have them '
                'skipped, loader.bad_data = "skip"'
            )
        if self.channels is not None:
            return {"rgb": 3, LAB_AB: 2}.get(self.channels, 1)
        return found - (self.alpha is not None and found in (2, 4))

    @property
    def _first(self) -> int:
        """N of "first N", which takes channels as they are, alpha too; 0 where it is not that."""
        number = (self.channels or "").partition("first ")[2]
        return int(number) if number else 0

    def _without_alpha(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Pixels whose alpha, the last of 2 or 4 channels, is dropped, or composed on a colour; all of "first N"."""
        count = pixels.shape[2]
        if count not in (2, 4) or self._first:
            return pixels
        if self.alpha in (None, "drop"):
            return pixels[:, :, :-1]
        text = COLOURS.get(self.alpha, self.alpha)
        colour = np.array([int(text[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        low, high = dtype_range(pixels.dtype)
        colour = low + (high - low) * (colour if count == 4 else colour @ LUMA)
        values = np.asarray(pixels, np.float64)
        share = (values[:, :, -1:] - low) / (high - low)
        return _as(share * values[:, :, :-1] + (1 - share) * colour, pixels.dtype)


EVERYTHING = Taking()


def _as(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    return (values if dtype.kind == "f" else np.rint(values)).astype(dtype)


def arranged(sample: Sample, taking: Mapping[str, Taking]) -> Sample:
    """A sample with what is ``taking`` of its images, by side, and its sources in the order of that.

    What is said of "source" holds for each of several that is not named.
    """
    if not isinstance(sample.source, dict):
        images = dict[str, Any]()
        for side, own in taking.items():
            if (image := getattr(sample, side, None)) is not None:
                images[side] = own.of(image, f"{sample.key}, its {side}")
        return sample._replace(**images)
    sources = {}
    for name in ordered(list(sample.source), taking):
        own = taking.get(f"source.{name}", taking.get("source", EVERYTHING))
        sources[name] = own.of(sample.source[name], f"{sample.key}, its source {name}")
    target = sample.target
    if target is not None:
        target = taking.get("target", EVERYTHING).of(target, f"{sample.key}, its target")
    return sample._replace(source=sources, target=target)


def arranged_header(header: SampleHeader, taking: Mapping[str, Taking]) -> SampleHeader:
    """The header of an :func:`arranged` sample."""
    (*target_size, channels), key = header.target, header.key
    if any(header.target):
        channels = taking.get("target", EVERYTHING).taken(channels, f"{key}, its target")
    target = target_size[0], target_size[1], channels
    every = taking.get("source", EVERYTHING)
    if not header.parts:
        height, width, channels = header.source
        counted = every.taken(channels, f"{key}, its source") if any(header.source) else channels
        return header._replace(source=(height, width, counted), target=target)
    counts, sources = dict(header.parts), dict[str, Shape]()
    for name in ordered(list(counts), taking):
        taken = taking.get(f"source.{name}", every).taken(counts[name], f"{key}, its source {name}")
        sources[name] = header.source[0], header.source[1], taken
    return SampleHeader.of_sources(sources, target, key, header.mask)


def ordered(names: Sequence[str], taking: Mapping[str, Taking]) -> list[str]:
    """The names of sources, those first that a recipe names, in its order."""
    first = [side.removeprefix("source.") for side in taking if side.startswith("source.")]
    return [*(name for name in first if name in names), *(name for name in names if name not in first)]
