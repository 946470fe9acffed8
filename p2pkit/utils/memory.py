"""How much memory a process has taken."""

from __future__ import annotations

import sys


def peak_memory() -> int:
    """The most bytes that this process has had in memory, without those of its loader's workers."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
