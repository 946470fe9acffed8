"""One process at a time: several ranks of a run may want the same archive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time make ``path``; the others wait. There is no lock on Windows.

    Look again whether ``path`` exists once inside: another process may have made it meanwhile.
    Raises OSError when the lock file beside ``path`` cannot be written.
    """
    lock = path.with_name(path.name + ".lock")
    with lock.open("wb") as held:
        _wait_for(held.fileno(), path)
        try:
            yield
        finally:
            # whoever waits on the removed lock file finds `path` made; without `path` it must stay, or two would work
            if path.exists():
                # Windows does not remove open files
                with suppress(PermissionError):
                    lock.unlink(missing_ok=True)


def _wait_for(descriptor: int, path: Path) -> None:
    # some network file systems have no locks: better to go on than to refuse
    if sys.platform != "win32":
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process to finish {path}", file=sys.stderr, flush=True)  # noqa: T201
                fcntl.flock(descriptor, fcntl.LOCK_EX)
