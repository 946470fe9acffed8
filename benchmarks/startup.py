"""How long commands that never import torch take to answer: medians of several starts, taken in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

STARTS = 15
COMMANDS = (["--help"], ["run", "--help"], ["translate", "--help"], ["plugins"])


def main() -> None:
    """Print a line a command."""
    seconds: dict[str, list[float]] = {" ".join(command): [] for command in COMMANDS}
    for _ in range(STARTS):
        for command in COMMANDS:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "p2pkit", *command], stdout=subprocess.DEVNULL, check=True)
            seconds[" ".join(command)].append(time.perf_counter() - began)
    for name, measured in seconds.items():
        print(f"p2pkit {name}: median {statistics.median(measured):.3f} s, slowest {max(measured):.3f} s")


main()
