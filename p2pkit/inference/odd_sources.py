"""Sources whose values are not like those that a model was trained on: what is odd about them, in a few words."""

from __future__ import annotations

from collections.abc import Iterator
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


class OddSources:
    """Counts what is odd about sources; they may be looked at in several threads."""

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self._profiles: list[str] = []
        self._found: list[str] = []

    def look_at(self, pixels: NDArray[Any], source: Tensor | None = None) -> None:
        """Take note of a source, or of a part of it: pixels [H, W, C] as stored, and [C, H, W] in [-1, 1]."""
        if isinstance(pixels, StoredPixels) and pixels.profile:
            self._profiles.append(pixels.profile)
        encoding: Any = getattr(self._translator.generator, "encoding", None)
        if encoding is None:
            self._found += self._odd_values(pixels)
        elif source is not None and hasattr(encoding, "class_numbers"):
            device = next(self._translator.generator.parameters()).device
            with torch.no_grad():
                numbers = encoding.class_numbers(source[None].to(device))
            outside = (numbers < 0) | (numbers >= encoding.classes)
            outside &= numbers != encoding.void if encoding.void is not None else torch.ones_like(outside)
            if float(outside.float().mean()) > REFUSED:
                self._found.append(
                    f"have numbers that are not those of the model's {encoding.classes} classes in more than 1% of "
                    "their pixels, which are 0 in all channels"
                )

    def _odd_values(self, pixels: NDArray[Any]) -> Iterator[str]:
        header = self._translator.header
        try:
            low, high = header.source_range or dtype_range(pixels.dtype)
        except KeyError:
            return
        nodata = header.source_nodata
        where = nothing_there(pixels, None if nodata is None else float(nodata))
        values = np.asarray(pixels) if where is None else np.asarray(pixels)[~where]
        if not values.size:
            return
        trained = f"the model was trained on {low:g} to {high:g} of {header.source_dtype}"
        if np.mean((values < low) | (values > high)) > REFUSED:
            yield f"have more than 1% of their values beyond the range, and these are clipped: {trained}"
            return
        used = float(values.max()) - float(values.min())
        if str(pixels.dtype) != header.source_dtype and used < LITTLE * (high - low):
            yield f"are of {pixels.dtype} and take up less than a fifth of the range: {trained}"

    def notices(self) -> Iterator[str]:
        """A line for each kind, in counts."""
        if self._profiles:
            yield lost_profiles(self._profiles)
        for odd in dict.fromkeys(self._found):
            count = self._found.count(odd)
            yield f"{count} of the sources {odd}"
