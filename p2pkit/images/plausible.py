"""How much a file may unpack to before it is taken for a decompression bomb."""

from __future__ import annotations

from p2pkit.errors import DataError

RATIO = 200
"""A file may unpack to so many times its length ..."""
ALWAYS = 1 << 30
"""... and to so many bytes in any case."""


def largest_plausible(packed: int) -> int:
    """How many bytes a file of ``packed`` bytes may unpack to."""
    return max(ALWAYS, RATIO * packed)


def refuse_implausible(unpacked: int, packed: int) -> None:
    """Raise DataError when a file of ``packed`` bytes says that it unpacks to more than is plausible."""
    if unpacked > largest_plausible(packed):
        raise DataError(
            f"refused, it unpacks to more pixels than are plausible: {packed} bytes to {unpacked}; it may be a "
            "decompression bomb"
        )
