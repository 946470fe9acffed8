"""Train on shards that are larger than the memory allowed, and watch the resident size.

The training processes run in a memory cgroup (version 2 or 1) where this machine lets one be made; page cache counts
there too, so shards that were kept in memory would end the run. Where none can be made, that is said, and the resident
size is measured all the same. It needs the plugin: pip install plugins/p2pkit-webdataset
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from p2pkit.contracts import Sample
from p2pkit_webdataset.writing import make_shards

SIZE = 256
RECIPE = """
[data]
name = "webdataset"
root = "{root}"

[loader]
batch_size = {batch_size}
workers = 2

[transform]
crop_size = 32

[generator]
depth = 3
width = 4

[discriminator]
name = "patchgan_16"
width = 4

[train]
epochs = {epochs}
sample_every = 1000000
log_every = 10
"""


class Noise:
    """Pairs of noise, which no PNG makes smaller."""

    def __init__(self, pairs: int) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return self._pairs

    def __getitem__(self, index: int) -> Sample:
        source, target = np.random.default_rng(index).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
        return Sample(source, target, f"{index:07}")

    def fingerprint(self) -> str:
        """All pairs are functions of their index."""
        return f"noise {self._pairs}"


@contextmanager
def memory_group(limit: int) -> Iterator[Path | None]:
    """A cgroup with a limit in bytes, to write process numbers to; None where none can be made."""
    group = made_group(limit)
    try:
        yield group
    finally:
        if group is not None:
            time.sleep(1)  # the last process leaves it
            group.rmdir()


def made_group(limit: int) -> Path | None:
    """A new cgroup below that of this process, of version 1 or 2."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {line.split(":")[1]: line.split(":")[2].lstrip("/") for line in lines}
    root = Path("/sys/fs/cgroup")
    for controller, parent, file in (
        ("memory", root / "memory", "memory.limit_in_bytes"),
        ("", root, "memory.max"),
    ):
        if controller in own:
            group = parent / own[controller] / f"p2pkit-{os.getpid()}"
            try:
                group.mkdir()
                (group / file).write_text(str(limit))
            except OSError:
                with suppress(OSError):
                    group.rmdir()
                continue
            print(f"cgroup with {file} = {limit / 1e9:.2f} GB")
            return group
    print("no memory cgroup can be made here: the resident size is measured, but nothing enforces the limit")
    return None


def anonymous_bytes(process: int) -> int:
    """The resident memory of a process and its children that is not a file's; what they share counts once."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    own = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:")), 0)
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return own + sum(anonymous_bytes(int(child)) for child in children)


def steps_done(run: Path) -> int:
    """The last step in the metrics of a run."""
    with suppress(OSError, IndexError, ValueError):
        return int(json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"])
    return 0


def train(recipe: Path, run: Path, group: Path | None) -> list[tuple[int, int]]:
    """Train, and give (step, anonymous bytes of all processes) twice a second."""

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    command = [sys.executable, "-m", "p2pkit", "run", str(recipe), "--out", str(run), "--device", "cpu"]
    running = subprocess.Popen([*command], preexec_fn=enter)
    seen = []
    while running.poll() is None:
        with suppress(OSError):
            seen.append((steps_done(run), anonymous_bytes(running.pid)))
        time.sleep(0.5)
    if running.returncode:
        sys.exit(f"the run has failed with exit code {running.returncode}")
    return [(step, size) for step, size in seen if 0 < step < seen[-1][0]]  # while there are workers


def main() -> None:
    """Make shards, train on them, print the resident size of each tenth and of the first and the last quarter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-gigabytes", type=float, default=4.0)
    parser.add_argument("--limit-gigabytes", type=float, default=1.5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="Where the shards go. [a temporary folder]")
    options = parser.parse_args()
    pairs = int(options.data_gigabytes * 1e9 / (2 * SIZE * SIZE * 3))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        shards, run = Path(folder) / "shards", Path(folder) / "run"
        make_shards({"train": Noise(pairs), "test": Noise(0)}, "noise", shards, 1000)
        size = sum(file.stat().st_size for file in shards.glob("*/*.tar"))
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text(RECIPE.format(root=shards, batch_size=options.batch_size, epochs=options.epochs))
        print(f"{pairs} pairs in {size / 1e9:.2f} GB of shards")
        with memory_group(int(options.limit_gigabytes * 1e9)) as group:
            seen = train(recipe, run, group)
    for part in range(0, len(seen), max(1, len(seen) // 10)):
        print(f"step {seen[part][0]:6}: {seen[part][1] / 1e6:.0f} MB")
    quarter = len(seen) // 4
    for name, some in (("first", seen[:quarter]), ("last", seen[-quarter:])):
        print(
            f"{name} quarter: {np.mean([size for _, size in some]) / 1e6:.0f} MB on average, "
            f"{max(size for _, size in some) / 1e6:.0f} MB at most"
        )


main()
