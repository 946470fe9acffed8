"""What a recipe says of the values of each side."""

from __future__ import annotations

from typing import Any, NamedTuple

from p2pkit.images.pixels import PLAIN_READING, Reading


class SideValues(NamedTuple):
    """What a recipe says of the values of one side."""

    rule: str = "type"
    """Where the range is from: "declared", "percentiles", "auto", "type" (the pixels'), "default" ("type" for pixels
    of 8 bits, else "auto"), or "labels" (one in which the numbers of classes keep apart)."""
    percentiles: tuple[float, float] | None = None
    reading: Reading = PLAIN_READING
    encoded: bool = False
    """They are numbers for an encoding, which mean the same in files of any type."""
    shades: bool = True
    """Neighbouring pixels may be averaged: they are no numbers of classes, and none of them means "nothing here"."""


class BySide(dict[str, Any]):
    """What is known of each side; of a source without an entry ("source.NAME"), what is known of "source"."""

    def __missing__(self, side: str) -> Any:
        return self.get("source" if side.startswith("source.") else side)
