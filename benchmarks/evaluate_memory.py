"""Memory of `p2pkit evaluate` while it measures a thousand pairs of 256x256: flat, or growing with their number.

    python benchmarks/evaluate_memory.py [--pairs 1000] [--metrics mae,psnr,ssim]

Trains one step on drawn façades, evaluates, and reads the resident memory of the process after every line of progress.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

RECIPE = """
[data]
name = "procedural_facades"
size = 256
pairs = 20
val_pairs = 0
test_pairs = {pairs}

[generator]
width = 16

[train]
max_steps = 1

[validation]
max_images = 1
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--metrics", default="mae,psnr,ssim")
    options = parser.parse_args()
    program = [sys.executable, "-m", "p2pkit"]
    with tempfile.TemporaryDirectory() as folder:
        recipe, run = Path(folder, "recipe.toml"), Path(folder, "run")
        recipe.write_text(RECIPE.format(pairs=options.pairs))
        subprocess.run([*program, "run", recipe, "--out", run, "--device", "cpu"], check=True, capture_output=True)
        began = time.monotonic()
        measuring = subprocess.Popen(
            [*program, "evaluate", run, "--device", "cpu", "--metrics", options.metrics], text=True,
            stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert measuring.stderr is not None
        seen: list[tuple[int, float]] = []
        for line in measuring.stderr:
            if found := re.match(r"measuring .*: (\d+)/", line):
                status = Path(f"/proc/{measuring.pid}/status")
                text = status.read_text() if status.exists() else ""
                if resident := re.search(r"VmRSS:\s+(\d+) kB", text):
                    seen.append((int(found[1]), int(resident[1]) / 1024))
        out, _ = measuring.communicate()
    print(out)
    for pairs, megabytes in seen:
        print(f"{pairs:5} pairs: {megabytes:7.0f} MB")
    quarter = max(1, len(seen) // 4)
    first, last = (median(megabytes for _, megabytes in part) for part in (seen[:quarter], seen[-quarter:]))
    seconds = time.monotonic() - began
    print(f"{len(seen)} lines of progress, {seconds:.0f} s; first quarter {first:.0f} MB, last {last:.0f} MB")


if __name__ == "__main__":
    main()
