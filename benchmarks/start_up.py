"""How long commands take to their first line, and to what they are for: a fresh process each time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from p2pkit.benchmarks.machine import cpu_seconds

POLL_SECONDS = 0.01
SMALL = """
[data]
name = "side_by_side"
root = "{pairs}"

[transform]
load_size = 286
crop_size = 256

[generator]
width = 8

[discriminator]
width = 8

[train]
max_steps = {steps}
log_every = 1
"""


def measure_start_up(pairs: Path, image: Path, folder: Path, turns: int) -> dict[str, dict[str, float]]:
    """Medians of seconds and of CPU seconds, by command: to the first line, and to the first step or to the end."""
    for name, steps in (("whole", 1), ("long", 10**6)):
        (folder / f"{name}.toml").write_text(SMALL.format(pairs=pairs, steps=steps))
    trained, run = folder / "trained", folder / "run"
    words = ["run", str(folder / "whole.toml"), "--out", str(trained)]
    subprocess.run([sys.executable, "-m", "p2pkit", *words], check=True, capture_output=True)  # the files are in memory
    commands = {
        "run": ["run", str(folder / "long.toml"), "--out", str(run)],
        "check": ["check", str(folder / "whole.toml")],
        "translate": ["translate", str(trained), str(image), "--out", str(folder / "translated.png")],
        "components": ["components"],
        "--help": ["--help"],
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(turns):
        for name, command in commands.items():
            shutil.rmtree(run, ignore_errors=True)
            (folder / "translated.png").unlink(missing_ok=True)
            reached = (run / "metrics.jsonl").exists if name == "run" else None
            found[name].append(_started(command, reached))
    return {name: {key: median(each[key] for each in every) for key in every[0]} for name, every in found.items()}


def _started(command: list[str], reached: Callable[[], bool] | None) -> dict[str, float]:
    """What one start takes: until ``reached`` says that it is there, or else to its end."""
    began = time.perf_counter()
    started = subprocess.Popen(
        [sys.executable, "-m", "p2pkit", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert started.stdout is not None
    try:
        started.stdout.read(1)
        measured = {
            "first_line": time.perf_counter() - began,
            "first_line_cpu": cpu_seconds(psutil.Process(started.pid)),
        }
        if reached is None:
            started.stdout.read()  # to its end; it is not waited for yet, so that its times are known
        else:
            while not reached():
                assert started.poll() is None, "the run has ended before its first step"
                time.sleep(POLL_SECONDS)
        return measured | {"done": time.perf_counter() - began, "done_cpu": cpu_seconds(psutil.Process(started.pid))}
    finally:
        started.kill()
        started.wait()
