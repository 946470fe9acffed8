"""Translate an image in tiles, and watch time, memory and seams: memory must not grow with the image.

The model is a U-Net of the paper's size that has learnt nothing, the image colours that change slowly and a little
grain. The peak is that of the whole process, as the system counts it (VmHWM). Seams are
looked for in the output: how much rows and columns differ from their neighbours where tiles fade into one another, and
how much where they would if all tiles were moved by multiples of 64, the grid on which a U-Net's texture lies.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tifffile import memmap

import p2pkit
from p2pkit.images.regions import open_regions
from p2pkit.inference.model_file import write_model
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.tiles import Tiling

TEXTURE = 64
"""Feature maps of up to this many pixels a feature leave their grid in the output."""


def write_source(file: Path, size: int) -> None:
    """An image of ``size`` by ``size`` as TIFF, made a few rows at a time."""
    random = np.random.default_rng(0)
    image = memmap(file, shape=(size, size, 3), dtype=np.uint8, photometric="rgb", bigtiff=True)
    across = np.arange(size, dtype=np.float32)[:, None] / size * np.float32([9.0, 17.0, 31.0])
    for top in range(0, size, 256):
        down = np.arange(top, min(top + 256, size), dtype=np.float32)[:, None, None] / size * 13.0
        image[top : top + 256] = np.rint(127 + 110 * np.sin(across + down) * np.cos(down)).astype(np.uint8)
        image[top : top + 256] += random.integers(0, 8, (len(down), size, 3), dtype=np.uint8)
    image.flush()


def write_untrained(file: Path, width: int) -> None:
    """A model file of a U-Net with random weights."""
    parameters = {"width": width}
    generator = p2pkit.create("generators", "unet", source_channels=3, target_channels=3, **parameters)
    header = ModelHeader(
        generator="unet", parameters=parameters, distribution="p2pkit", distribution_version=p2pkit.__version__,
        source_channels=3, target_channels=3, source_dtype="uint8", target_dtype="uint8",
    )  # fmt: skip
    write_model(file, generator.state_dict(), header)


def peak_bytes(process: int) -> int:
    """The most memory that a process has had resident, 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def neighbours_differ(file: Path, tiling: Tiling) -> list[float]:
    """How much rows and columns differ from the one before, on average over the places where a tile's fading begins or
    ends; first for the tiles as they are, then for tiles moved by 64 pixels, by 128, and so on."""
    image = open_regions(file)
    height, width, _ = image.shape
    sums = [np.zeros(height), np.zeros(width)]
    for top in range(0, height, 256):
        rows = image.read(slice(max(0, top - 1), min(top + 256, height)), slice(0, width)).astype(np.int16)
        between = np.abs(np.diff(rows, axis=0)).mean(axis=(1, 2))
        sums[0][max(1, top) : max(1, top) + len(between)] = between
        sums[1][1:] += np.abs(np.diff(rows, axis=1)).mean(axis=2).sum(axis=0) / height
    found = []
    for moved in range(0, tiling.size - tiling.overlap, TEXTURE):
        differences = [
            differences[(place + moved) % len(differences)]
            for differences in sums
            for span in tiling.along(len(differences))[1:]
            for place in (span.begin, span.begin + span.fade)
        ]
        found.append(float(np.mean(differences)))
    return found


def main() -> None:
    """Make model and image, translate, print time, peak and seams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", type=int, nargs="?", default=4096)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--norm", default="sample")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_untrained(folder / "model.safetensors", options.width)
        write_source(folder / "source.tif", options.size)
        began, peak = time.monotonic(), 0
        command = [sys.executable, "-m", "p2pkit", "translate", "model.safetensors", "source.tif", "--out", "out"]
        for key in ("tile", "overlap", "norm", "device", "batch_size"):
            command += [f"--{key.replace('_', '-')}", str(getattr(options, key))]
        running = subprocess.Popen(command, cwd=folder)
        while running.poll() is None:
            peak = max(peak, peak_bytes(running.pid))
            time.sleep(0.1)
        if running.returncode:
            sys.exit(f"the translation has failed with exit code {running.returncode}")
        print(f"{options.size}x{options.size}: {time.monotonic() - began:.0f} s, peak {peak / 2**20:.0f} MiB")
        tiling = Tiling(options.tile, options.overlap)
        at_borders, *elsewhere = neighbours_differ(folder / "out" / "source.tif", tiling)
        lowest, highest = min(elsewhere), max(elsewhere)
        print(
            f"rows differ by {at_borders:.2f} at tiles' borders, by {lowest:.2f} to {highest:.2f} at others like them"
        )


main()
