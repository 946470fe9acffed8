"""Steps a second and peak memory of a recipe, as `p2pkit run` trains it: median of several short runs."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS, WARM_UP, STEPS = 3, 10, 60


def seconds_of(recipe: str, steps: int, options: list[str]) -> float:
    """Wall-clock seconds of a whole run of ``steps`` steps that writes as little as can be."""
    quiet = [f"train.max_steps={steps}", "train.sample_every=1000000", "train.checkpoint_every=1000000", "metrics=[]"]
    with tempfile.TemporaryDirectory() as folder:
        settings = [part for setting in quiet for part in ("--set", setting)]
        command = [sys.executable, "-m", "p2pkit", "run", recipe, "--out", str(Path(folder) / "run"), *settings]
        began = time.perf_counter()
        subprocess.run([*command, *options], check=True, capture_output=True)
        return time.perf_counter() - began


def main() -> None:
    """Print JSON: steps a second (start-up taken out by a second, shorter run) and peak memory in MiB."""
    recipe, *options = sys.argv[1:]
    rates = []
    for _ in range(RUNS):
        short, long = seconds_of(recipe, WARM_UP, options), seconds_of(recipe, WARM_UP + STEPS, options)
        rates.append(STEPS / (long - short))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        json.dumps({"recipe": recipe, "steps_per_second": round(statistics.median(rates), 2), "peak_mib": round(peak)})
    )


main()
