"""Sources whose values are not like those that a model was trained on: what is odd about them, in a few words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.contracts import dtype_range
from p2pkit.data.class_table import REFUSED
from p2pkit.data.samples import LITTLE
from p2pkit.images.colour_profiles import lost_profiles
from p2pkit.images.pixels import StoredPixels, nothing_there

if TYPE_CHECKING:
    from p2pkit.inference.translator import Translator


@dataclass
class Seen:
    """What has been seen of one source, which may come part by part."""

    dtype: str = ""
    profile: str = ""
    values: int = 0
    """How many of them count: values that mean "nothing here" do not."""
    beyond: int = 0
    """How many of these lie outside the model's range."""
    low: float = math.inf
    high: float = -math.inf
    numbers: int = 0
    """How many pixels have been seen as numbers of classes."""
    foreign: int = 0
    """How many of these are neither classes nor void."""


class OddSources:
    """Counts what is odd about sources; they may be looked at in several threads."""

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self._encoding: Any = getattr(translator.generator, "encoding", None)
        self._profiles: list[str] = []
        self._found: list[str] = []

    def look_at(self, pixels: NDArray[Any], source: Tensor, seen: Seen | None = None) -> None:
        """Take note of a source: pixels [H, W, C] as stored, and [C, H, W] in [-1, 1].

        With ``seen`` they are a part, which is added to that, and :meth:`count` ends the source.
        """
        whole = seen or Seen()
        whole.dtype = str(pixels.dtype)
        if isinstance(pixels, StoredPixels) and pixels.profile:
            whole.profile = pixels.profile
        encoding = self._encoding
        if encoding is None:
            self._see_values(pixels, whole)
        elif hasattr(encoding, "class_numbers"):
            device = next(self._translator.generator.parameters()).device
            with torch.no_grad():
                numbers = encoding.class_numbers(source[None].to(device))
            outside = (numbers < 0) | (numbers >= encoding.classes)
            outside &= numbers != encoding.void if encoding.void is not None else torch.ones_like(outside)
            whole.numbers += outside.numel()
            whole.foreign += int(outside.sum())
        if seen is None:
            self.count(whole)

    def count(self, seen: Seen) -> None:
        """Take note of what is odd about a source that has been seen as a whole."""
        if seen.profile:
            self._profiles.append(seen.profile)
        self._found += self._odd(seen)

    def _see_values(self, pixels: NDArray[Any], seen: Seen) -> None:
        values = np.asarray(pixels)
        nodata = self._translator.header.missing.nodata
        if (where := nothing_there(pixels, nodata)) is not None:
            values = values[~where]
        try:
            low, high = self._translator.header.source_range or dtype_range(pixels.dtype)
        except KeyError:
            return
        if values.size:
            seen.values += values.size
            seen.beyond += int(np.count_nonzero((values < low) | (values > high)))
            seen.low, seen.high = min(seen.low, float(values.min())), max(seen.high, float(values.max()))

    def _odd(self, seen: Seen) -> Iterator[str]:
        header = self._translator.header
        if seen.foreign > REFUSED * seen.numbers:
            yield (
                f"have numbers that are not those of the model's {self._encoding.classes} classes "
                "in more than 1% of their pixels, which are 0 in all channels"
            )
        if not seen.values:
            return
        low, high = header.source_range or dtype_range(np.dtype(seen.dtype))
        trained = f"the model was trained on {low:g} to {high:g} of {header.source_dtype}"
        if seen.beyond > REFUSED * seen.values:
            yield f"have more than 1% of their values beyond the range, and these are clipped: {trained}"
        elif seen.dtype != header.source_dtype and seen.high - seen.low < LITTLE * (high - low):
            yield f"are of {seen.dtype} and take up less than a fifth of the range: {trained}"

    def notices(self) -> Iterator[str]:
        """A line for each kind, in counts."""
        if self._profiles:
            yield lost_profiles(self._profiles)
        for odd in dict.fromkeys(self._found):
            count = self._found.count(odd)
            yield f"{count} of the sources {odd}"

    def report_each(self) -> None:
        """Tell of each kind once, however often the translator is called."""
        for name in dict.fromkeys(self._profiles):
            self._translator.report(f"NOTICE: some sources have a colour profile, {name}: numbers are taken as stored")
        for odd in dict.fromkeys(self._found):
            self._translator.report(f"NOTICE: some of the sources {odd}")
