"""How long threads of PyTorch's OpenMP library (libgomp) spin while they wait for one another."""

from __future__ import annotations

import math
import time
from collections.abc import MutableMapping
from pathlib import Path
from statistics import fmean

SPINS, SPINS_ON_BUSY_CORES = "30000", "1000"
"""How often a thread looks for work before it sleeps. libgomp's own number is 300,000, hardly better than 30,000 on
idle cores, and much worse once others want them."""
LOOKS, PAUSE_SECONDS = 5, 0.002
BUSY = 0.5
"""Threads of other programs that run, on average, from which on cores count as busy."""
LOAD = Path("/proc/loadavg")


def set_spinning(environment: MutableMapping[str, str]) -> None:
    """Let threads spin for long, which costs nothing on idle cores, unless other programs want the cores now.

    It counts in processes that load PyTorch in this ``environment`` afterwards. What a user has set there stays.
    """
    if "GOMP_SPINCOUNT" not in environment and "OMP_WAIT_POLICY" not in environment:
        environment["GOMP_SPINCOUNT"] = SPINS if _others_running() < BUSY else SPINS_ON_BUSY_CORES


def _others_running() -> float:
    """How many threads of other programs have a core or wait for one; infinite where the system does not tell."""
    found = []
    try:
        for _ in range(LOOKS):
            time.sleep(PAUSE_SECONDS)  # what runs for a moment is not to count
            running = LOAD.read_text("ascii").split()[3].partition("/")[0]
            found.append(int(running) - 1)  # this one runs
    except (OSError, ValueError, IndexError):
        return math.inf
    return fmean(found) if min(found) >= 0 else math.inf  # sandboxes that know no load write 0/0
