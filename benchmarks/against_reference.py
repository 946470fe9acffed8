"""Speed of p2pkit beside the reference implementation's, in turns within one run.

    python benchmarks/against_reference.py --peer PATH

PATH is a clone of junyanz/pytorch-CycleGAN-and-pix2pix. Both train the same networks (U-Net 256, PatchGAN 70, batch
norm, float32, GAN + 100 L1, Adam) on the same pairs of 256x256, translate the same folder of images, and load the same
512x256 JPEG pairs, each in a process of its own with its own memory: p2pkit's by its own trainer, loader and
translator, the reference's by its own options, data set, model and test loop. They take turns, and who begins changes.
A ratio is the median over turns of the reference's seconds by p2pkit's, with an interval by order statistics. The
ceiling is the fastest matrix product of several sizes, measured in each turn too. Start-up is p2pkit's alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from start_up import measure_start_up
from turns import LEAST_TURNS, OURS, busy_cores, in_turns, ratio, sides

PARTS = ("train", "translate", "load", "start-up")
PAIRS, IMAGES, SIDE = 64, 16, 256
CACHES = ("none", "memory", "disk")
"""Where p2pkit's loader keeps what it has decoded; the reference's decodes each time."""
HEADER = ("", "p2pkit", "reference", "times as fast", "GFLOP", "GFLOP/s", "of the ceiling", "peak memory")
START_UP = ("command", "first line", "its CPU seconds", "first step, or end", "its CPU seconds")


def draw(folder: Path, side: int = SIDE) -> tuple[Path, Path]:
    """Pairs side by side to train on, and images to translate, with the spectrum of photos, so as large as theirs."""
    pairs, images = folder / "pairs", folder / "images"
    random = np.random.default_rng(0)
    (pairs / "train").mkdir(parents=True)
    images.mkdir()
    for index in range(PAIRS):
        Image.fromarray(_photo(random, side, 2 * side)).save(pairs / "train" / f"{index}.jpg", quality=92)
    for index in range(IMAGES):
        ending = "png" if index % 2 else "jpg"
        Image.fromarray(_photo(random, side, side)).save(images / f"{index}.{ending}", quality=92)
    return pairs, images


def _photo(random: np.random.Generator, height: int, width: int) -> Any:
    """Noise whose amplitude falls with the frequency, uint8 [height, width, 3]."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(random.standard_normal((height, width, 3)), axes=(0, 1)) / frequency[:, :, None]
    pixels = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return np.uint8(np.clip(127 + 50 * (pixels - pixels.mean()) / pixels.std(), 0, 255))


def compared(task: str, given: Mapping[str, Any], peer: Path, turns: int) -> dict[str, Any]:
    """Both sides of a task in turns, and of training the ceiling beside them."""
    ours, theirs = (OURS, task, given), ("side_peer.py", task, {**given, "peer": str(peer)})
    wanted = [ours, theirs]
    if task == "train":
        wanted.append((OURS, "ceiling", {"device": given["device"]}))
    with sides(*wanted) as made:
        seconds = in_turns(made, turns)
        ended = [side.end() for side in made]
    found: dict[str, Any] = {"ratio": ratio(*seconds[:2]), "turns": turns}
    if task == "train":
        found["ceiling"] = 1 / min(seconds[2])
    for name, own, said in zip(("p2pkit", "reference"), seconds, ended, strict=False):
        found[name] = {"seconds": median(own), "all_seconds": own, **said}
        if "flop" in said:
            found[name]["flop_per_second"] = said["flop"] / median(own)
            found[name]["share_of_ceiling"] = found[name]["flop_per_second"] / found["ceiling"]
    return found


def facts(device: str, busy: bool) -> dict[str, Any]:
    """What the numbers were measured on."""
    from p2pkit import __version__
    from p2pkit.run_dir import this_start

    start = this_start(device, 1, {})
    names = ("processor", "cpu_capability", "threads", "gpus", "cuda", "python", "libraries", "p2pkit_commit")
    waiting = os.environ.get("OMP_WAIT_POLICY", "not set")
    kept = {name: start[name] for name in names}
    return {
        "p2pkit": __version__,
        "device": device,
        "busy": busy,
        "cores": os.cpu_count(),
        "wait_policy": waiting,
        **kept,
    }


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was compared, as a table in Markdown."""
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    for name, row in rows.items():
        both, of = (row["p2pkit"], row["reference"]), row["ratio"]
        rates = [f"{1 / each['seconds']:.3g}/s" for each in both]
        faster = f"{of['median']:.2f} ({of['low']:.2f} to {of['high']:.2f})"
        work, memory = [""] * 3, _both(f"{each['peak_memory'] / 2**20:.0f} MiB" for each in both)
        if "ceiling" in row:
            work = [_both(f"{each['flop'] / 1e9:.1f}" for each in both)]
            work += [_both(f"{each['flop_per_second'] / 1e9:.1f}" for each in both)]
            work += [_both(f"{each['share_of_ceiling']:.0%}" for each in both)]
        lines.append(_line([name, *rates, faster, *work, memory]))
    return lines


def _both(texts: Any) -> str:
    return ", ".join(texts)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def printed(found: Mapping[str, Any]) -> None:
    """Print what was found, in Markdown."""
    machine = found["machine"]
    on = f"{machine['processor']}, {machine['cores']} cores, {machine['cpu_capability']}, threads: {machine['threads']}"
    gpu = f"; {', '.join(machine['gpus'])}" if machine["device"] != "cpu" else ""
    load = ", one process spinning on each core" if machine["busy"] else ""
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    print(f"\n{on}{gpu}{load}; OMP_WAIT_POLICY {machine['wait_policy']}; Python {machine['python']}, {libraries}\n")
    if found["compared"]:
        print("\n".join(table(found["compared"])))
        first = next(iter(found["compared"].values()))
        covered = first["ratio"]["covered"]
        print(f"\nMedians of {first['turns']} turns; intervals of {covered:.1%}. Pairs of numbers: p2pkit, reference.")
        for name, row in found["compared"].items():
            if "ceiling" in row:
                print(f"Ceiling during {name}: {row['ceiling'] / 1e9:.1f} GFLOP/s.")
    if found["start_up"]:
        print("\n" + "\n".join([_line(START_UP), _line(["---"] * len(START_UP))]))
        for name, row in found["start_up"].items():
            print(_line([f"p2pkit {name}", *(f"{value:.2f} s" for value in row.values())]))


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a clone of the reference implementation")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least 7 [7]")
    parser.add_argument("--steps", type=int, default=2, help="of training in a turn [2]")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--busy", action="store_true", help="let one process spin on each core meanwhile")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if given.turns < LEAST_TURNS:
        parser.error(f"--turns {given.turns}: the interval of a median needs at least {LEAST_TURNS}")
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="p2pkit-against-") as made, busy_cores(given.busy):
        folder, peer = Path(made), given.peer.absolute()
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # what is known of these pairs is of no use afterwards
        os.environ["TMPDIR"] = str(folder)  # and so is what the sides leave behind
        pairs, images = draw(folder)
        of = {"pairs": str(pairs), "device": given.device}
        for size in given.batch_sizes if "train" in given.parts else ():
            train = {**of, "batch_size": size, "steps": given.steps}
            rows[f"training steps, batch {size}"] = compared("train", train, peer, given.turns)
        if "translate" in given.parts:
            translate = {**of, "images": str(images), "out": str(folder)}
            rows["images translated"] = compared("translate", translate, peer, given.turns)
        for cache in CACHES if "load" in given.parts else ():
            load = {**of, "batches": PAIRS, "cache": cache}
            rows[f'pairs loaded, one worker, cache = "{cache}"'] = compared("load", load, peer, given.turns)
        starts: dict[str, Any] = {}
        if "start-up" in given.parts:
            starts = measure_start_up(pairs, images / "0.jpg", folder, given.turns)
        found = {"machine": facts(given.device, given.busy), "compared": rows, "start_up": starts}
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        printed(found)


if __name__ == "__main__":
    main()
