"""The part of a file that has been downloaded so far, and a note beside it of what it is a part of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from p2pkit.utils.opening import ReadError, read_regular

PART = ".part"
"""What the names of partial files end in."""


class Origin(NamedTuple):
    """What a partial file is a part of: address, size of the whole in bytes, and ETag or Last-Modified."""

    url: str
    total: int | None
    validator: str | None


class Partial:
    """The file ``NAME.part`` beside ``file``, and its note ``NAME.part.json``. Its methods raise OSError."""

    def __init__(self, file: Path) -> None:
        self.path = file.with_name(file.name + PART)
        self._note = file.with_name(f"{file.name}{PART}.json")

    def size(self) -> int:
        """The number of bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> Origin | None:
        """What the bytes are a part of; None when that is not known."""
        try:
            found = Origin(**json.loads(read_regular(self._note, 2**16)))
        except ReadError:  # which must not cost what is there
            raise
        except (OSError, ValueError, TypeError, RecursionError):  # P2PKitError is a ValueError
            return None
        known = isinstance(found.url, str) and isinstance(found.total, int | None)
        return found if known and isinstance(found.validator, str | None) else None

    def start_over(self, origin: Origin) -> None:
        """Empty the file, to hold bytes of ``origin`` from now on."""
        # emptied before the note is written, so that a kill in between cannot pair old bytes with a new origin
        self.discard()  # a FIFO would wait for somebody who reads, and a link leads to somebody else's file
        self.path.write_bytes(b"")
        self._note.write_text(json.dumps(origin._asdict()), encoding="utf-8")

    def publish(self, file: Path) -> None:
        """Give the complete file its own name."""
        self.path.replace(file)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
