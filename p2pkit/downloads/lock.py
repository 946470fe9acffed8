"""One process at a time: several ranks of a run may want the same archive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from p2pkit.utils.atomic import is_still_at, lock


@contextmanager
def locked(path: Path, shown: bool = True) -> Iterator[None]:
    """Let one process at a time make ``path``; the others wait, and say so if ``shown``. There is no lock on Windows.

    Look again whether ``path`` exists once inside: another process may have made it meanwhile.
    Raises OSError when the lock file beside ``path`` cannot be written.
    """
    file = path.with_name(path.name + ".lock")
    with _acquired(file, path, shown):
        try:
            yield
        finally:
            # whoever waits on the removed lock file finds `path` made; without `path` it must stay, or two would work
            if path.exists():
                # Windows does not remove open files
                with suppress(PermissionError):
                    file.unlink(missing_ok=True)


def _acquired(file: Path, path: Path, shown: bool) -> IO[bytes]:
    while True:
        held = file.open("wb")
        if not lock(held):
            if shown:
                print(f"waiting for another process to finish {path}", file=sys.stderr, flush=True)  # noqa: T201
            lock(held, wait=True)
        if is_still_at(held, file):  # `path` itself may be gone again by now
            return held
        held.close()
