"""Black images in place of a data set that is not there, so that the rest of a recipe can be tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pkit.contracts import Sample, SampleHeader


def guessed_header(sources: Sequence[str], encoded: bool, size: tuple[int, int]) -> SampleHeader:
    """What samples of ``size`` are like of which nothing is known: RGB, or of sources that are ``encoded`` one channel.

    Several ``sources`` go by their names.
    """
    target, channels = (*size, 3), 1 if encoded else 3
    if sources:
        return SampleHeader.of_sources(dict.fromkeys(sources, (*size, channels)), target, "stand-in")
    return SampleHeader((*size, channels), target, "stand-in")


@dataclass(frozen=True)
class StandIn:
    """A train set of black images, as many as a batch needs, with the shapes of ``like``."""

    like: SampleHeader
    samples: int

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Sample:
        header = self.header(index)
        source: Any = np.zeros(header.source, np.uint8)
        if header.parts:
            height, width, _ = header.source
            source = {name: np.zeros((height, width, channels), np.uint8) for name, channels in header.parts}
        mask = np.zeros(header.mask, np.uint8) if any(header.mask) else None
        return Sample(source, np.zeros(header.target, np.uint8), header.key, mask)

    def header(self, index: int) -> SampleHeader:
        """The shapes of all samples."""
        if not 0 <= index < self.samples:
            raise IndexError(index)
        return self.like._replace(key=f"stand-in {index}")

    def fingerprint(self) -> str:
        """The same for all."""
        return "stand-in"
