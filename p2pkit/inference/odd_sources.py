"""Sources whose values are not like those that a model was trained on: what is odd about them, in a few words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.contracts import dtype_range
from p2pkit.data.class_table import REFUSED
from p2pkit.data.sets import LITTLE
from p2pkit.images.colour_profiles import lost_profiles
from p2pkit.images.pixels import StoredPixels, nothing_there
from p2pkit.networks.encoding import split_sources
from p2pkit.settings import LAB_L

if TYPE_CHECKING:
    from p2pkit.inference.model_header import SourceHeader
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


Pixels = NDArray[Any] | Mapping[str, NDArray[Any]]
"""A source [H, W, C] as stored, or several by name."""


class OddSources:
    """Counts what is odd about sources; they may be looked at in several threads."""

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self._profiles: list[str] = []
        self._found: list[str] = []

    def look_at(self, pixels: Pixels, source: Tensor, seen: dict[str, Seen] | None = None) -> None:
        """Take note of a source, or of several that go together: as stored, and [C, H, W] in [-1, 1].

        With ``seen``, by name, they are a part, which is added to that, and :meth:`count` ends the source.
        """
        images = pixels if isinstance(pixels, Mapping) else {"": pixels}
        whole, tensors = {} if seen is None else seen, split_sources(source, self._translator.parts)
        for part, header in zip(self._translator.parts, self._translator.header.each_source, strict=True):
            image, own = images[part.name], whole.setdefault(part.name, Seen())
            # what Lab is computed of may well be of another type
            own.dtype = header.dtype if header.reading.channels == LAB_L and image.itemsize == 1 else str(image.dtype)
            if isinstance(image, StoredPixels) and image.profile:
                own.profile = image.profile
            if part.encoding is None:
                _see_values(image, own, header)
            elif hasattr(part.encoding, "class_numbers"):
                _see_classes(tensors[part.name], own, part.encoding)
        if seen is None:
            self.count(whole)

    def count(self, seen: Mapping[str, Seen]) -> None:
        """Take note of what is odd about a source that has been seen as a whole, or several by name."""
        for part, header in zip(self._translator.parts, self._translator.header.each_source, strict=True):
            own = seen.get(part.name, Seen())
            if own.profile:
                self._profiles.append(own.profile)
            which = f"the sources {part.name}" if part.name else "the sources"
            self._found += [f"{which} {odd}" for odd in _odd(own, header, part.encoding)]

    def notices(self) -> Iterator[str]:
        """A line for each kind, in counts."""
        if self._profiles:
            yield lost_profiles(self._profiles)
        for odd in dict.fromkeys(self._found):
            yield f"{self._found.count(odd)} of {odd}"

    def report_each(self) -> None:
        """Tell of each kind once, however often the translator is called."""
        for name in dict.fromkeys(self._profiles):
            self._translator.report(f"NOTICE: some sources have a colour profile, {name}: numbers are taken as stored")
        for odd in dict.fromkeys(self._found):
            self._translator.report(f"NOTICE: some of {odd}")


def _see_classes(source: Tensor, seen: Seen, encoding: Any) -> None:
    """Count pixels of [C, H, W] in [-1, 1] whose numbers are neither classes nor void."""
    with torch.no_grad():
        numbers = encoding.class_numbers(source[None].cpu())
    outside = (numbers < 0) | (numbers >= encoding.classes)
    outside &= numbers != encoding.void if encoding.void is not None else torch.ones_like(outside)
    seen.numbers += outside.numel()
    seen.foreign += int(outside.sum())


def _see_values(pixels: NDArray[Any], seen: Seen, header: SourceHeader) -> None:
    reading, taking = header.how_read()
    pixels, nodata = taking.of(pixels, header.name), reading.nodata
    values = np.asarray(pixels)
    if (where := nothing_there(pixels, nodata)) is not None:
        values = values[~where]
    try:
        low, high = header.range or dtype_range(pixels.dtype)
    except KeyError:
        return
    if values.size:
        seen.values += values.size
        seen.beyond += int(np.count_nonzero((values < low) | (values > high)))
        seen.low, seen.high = min(seen.low, float(values.min())), max(seen.high, float(values.max()))


def _odd(seen: Seen, header: SourceHeader, encoding: Any) -> Iterator[str]:
    if seen.foreign > REFUSED * seen.numbers:
        yield (
            f"have numbers that are not those of the model's {encoding.classes} classes "
            "in more than 1% of their pixels, which are 0 in all channels"
        )
    if not seen.values:
        return
    if header.reading.channels == LAB_L and seen.dtype != header.dtype:
        yield f"are of {seen.dtype}, and translations of 8 bits"
    low, high = header.values
    trained = f"the model was trained on {low:g} to {high:g} of {header.dtype}"
    low, high = header.range or dtype_range(np.dtype(seen.dtype))
    if seen.beyond > REFUSED * seen.values:
        yield f"have more than 1% of their values beyond the range, and these are clipped: {trained}"
    elif seen.dtype != header.dtype and header.how_read()[0].share((seen.low, seen.high), (low, high)) < LITTLE:
        yield f"are of {seen.dtype} and take up less than a fifth of the range: {trained}"
