"""One process at a time: several ranks of a run may want the same archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from p2pkit.utils.progress import print_line


@contextmanager
def locked(path: Path, shown: bool = True) -> Iterator[None]:
    """Let one process at a time make ``path``; the others wait, and say so if ``shown``.

    Look again whether ``path`` exists once inside: another process may have made it meanwhile.
    Raises OSError when the lock file beside ``path`` cannot be written.
    """
    file = path.with_name(path.name + ".lock")
    lock = FileLock(file)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        if shown:
            print_line(f"waiting for another process to finish {path}")
        held = lock.acquire()
    with held:
        try:
            yield
        finally:
            # whoever waits on the removed lock file finds `path` made; without `path` it must stay, or two would work
            if path.exists():
                # Windows does not remove open files
                with suppress(PermissionError):
                    file.unlink(missing_ok=True)
