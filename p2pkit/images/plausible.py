"""How much a file may unpack to before it is taken for a decompression bomb, and of how many parts it may consist."""

from __future__ import annotations

from collections.abc import Iterable

from p2pkit.errors import DataError
from p2pkit.utils.opening import limits, over

RATIO = 200
"""A file may unpack to so many times its length, or to the limit image_bytes if that is more."""


def largest_plausible(packed: int) -> int:
    """How many bytes a file of ``packed`` bytes may unpack to."""
    return max(limits().image_bytes, RATIO * packed)


def refuse_implausible(unpacked: int, packed: int) -> None:
    """Raise DataError when a file of ``packed`` bytes says that it unpacks to more than is plausible."""
    if unpacked > largest_plausible(packed):
        raise DataError(
            f"refused, it unpacks to more pixels than are plausible: {packed} bytes to {unpacked}; it may be a "
            f"decompression bomb. Beyond {RATIO} times a file, {over('image_bytes', unpacked)}"
        )


def refuse_many(count: int, what: str, limit: str = "image_pages", all_counted: bool = True) -> None:
    """Raise DataError when a file has more parts, which are ``what``, than a limit lets be looked at."""
    if count > getattr(limits(), limit):
        needed = count if all_counted else 10 * count
        raise DataError(f"refused, it has {count} {what}{'' if all_counted else ' or more'}; {over(limit, needed)}")


def refuse_long(pieces: Iterable[bytes], packed: int) -> None:
    """Raise DataError as soon as what a file of ``packed`` bytes unpacks to is more than is plausible; none is kept."""
    size = 0
    for piece in pieces:
        size += len(piece)
        refuse_implausible(size, packed)
