"""Names of the members of a shard: ``KEY.source.png``, after WebDataset's convention.

All that comes before the first dot of a member's last part is its key, what follows is its extension, and members of
one key that follow one another make one example.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from p2pkit.errors import DataError

_PARTS = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)


def member_name(key: str, side: str, ending: str) -> str:
    """The member that holds one side of the pair ``key``, whose dots are written %2E: they would end it.

    Raises:
        DataError: no member can have that key.
    """
    quoted = quote(key, safe="/", errors="surrogateescape").replace(".", "%2E")
    # a path that begins with / would be refused by whoever unpacks the shard
    name = f"{re.sub('^/', '%2F', quoted)}.{side}.{ending}"
    if split_name(name) is None:
        raise DataError(f"a pair has the key {key!r}, which cannot name a file; keys must not be empty or end in /")
    return name


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a member; None for one that belongs to no example."""
    found = _PARTS.fullmatch(name)
    return (found[1], found[2]) if found else None


def key_of(quoted: str) -> str:
    """The key of a pair as it was before it named a member."""
    return unquote(quoted, errors="surrogateescape")
