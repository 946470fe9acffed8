"""How much memory a process has taken, and what it does with memory that it has freed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -4, -3, -1
"""Options of glibc's mallopt: how many blocks are the system's own, from which size on, what is left free at most."""
KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: -1}
USUAL = {MMAP_MAX: 2**16, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26}
"""What glibc's own numbers come to in a process that frees large blocks."""


def peak_memory() -> int:
    """The most bytes that this process has had in memory, without those of its loader's workers."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


@contextmanager
def freed_memory_kept(wanted: bool) -> Iterator[None]:
    """Let the body have memory again that it has freed, where that is ``wanted`` and the C library is glibc.

    A step on a CPU takes and frees a gigabyte. Given back to the system, it would come back page by page, each cleared.
    Settings of glibc's own in the environment stay. Behind the body what is free is given back.
    """
    own = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.getenv("GLIBC_TUNABLES", "")
    if not wanted or own or sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        yield
        return
    _set(library, KEEPING)
    try:
        yield
    finally:
        _set(library, USUAL)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)
