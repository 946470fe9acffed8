"""Fine-tuning: from a model of one look of façades to another look, against as many steps from random weights.

Draws façades at 64 pixels; those of the other look are other drawings, at dusk: dark, bluish, of low contrast. Trains a
model on the first look, then a few steps on the second, with each seed, from that model's run folder, from its model
file (whose discriminator begins anew), and from random weights. Prints the metrics of 100 validation images for each
seed, and their means, and writes a grid: source, target, and each arm's output.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import p2pkit

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
ARMS = ("random", "model_file", "run_folder")
METRICS = ("validation/mae", "validation/psnr", "validation/ssim")
SHOWN = 4


def recipe(root: Path, seed: int, steps: int) -> dict[str, Any]:
    """The quickstart at 64 pixels, on folders of pairs, at a constant rate."""
    return {
        "extends": str(QUICKSTART),
        "run": {"name": root.name, "seed": seed, "trackers": []},
        "data": {"name": "paired_folders", "root": str(root)},
        "transform": {"load_size": 64, "crop_size": 64},
        "generator": {"depth": 5},
        "schedule": {"name": "constant"},
        "validation": {"baseline": "none"},
        "train": {"max_steps": steps, "max_time": "24h", "sample_every": 100_000, "checkpoint_every": steps},
    }


def at_dusk(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The other look of a photo [H, W, 3]."""
    mixed = photo @ np.array([[0.35, 0.1, 0.05], [0.1, 0.4, 0.1], [0.1, 0.15, 0.6]]) + np.array([8.0, 14.0, 40.0])
    return mixed.clip(0, 255).astype(np.uint8)


def draw(root: Path, seed: int, pairs: int, dusk: bool) -> Path:
    """Label maps and photos as folders, unless they are there."""
    for split, count in (("train", pairs), ("val", 100)):
        sizes = {"size": 64, "pairs": pairs, "val_pairs": 100, "seed": seed}
        drawn = p2pkit.create("datasets", "procedural_facades", split=split, **sizes)
        for index in range(count):
            sample = drawn[index]
            photo = at_dusk(sample.target) if dusk else sample.target
            for side, image in (("source", sample.source), ("target", photo)):
                file = root / split / side / f"{index:04}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                if not file.exists():
                    Image.fromarray(image).save(file)
    return root


def trained(out: Path, root: Path, seed: int, steps: int, begin: Path | None = None) -> dict[str, float]:
    """The validation metrics of a run, which is trained unless it is there."""
    if (out / "validation.json").exists():
        return dict(p2pkit.resume(out, device="cpu").metrics)
    tables = recipe(root, seed, steps)
    if begin is not None:
        tables["train"]["init_from"] = str(begin)
    return dict(p2pkit.train(tables, out=out, device="cpu").metrics)


def main() -> None:
    """Train all arms, print what they reach, and write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/fine_tuning"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=40, help="of the other look, which one has few pictures of")
    given = parser.parse_args()
    day = draw(given.out / "day", seed=0, pairs=400, dusk=False)
    dusk = draw(given.out / "dusk", seed=1, pairs=given.pairs, dusk=True)
    trained(given.out / "first", day, 0, given.first_steps)
    begins = {
        "random": None,
        "model_file": given.out / "first" / "model.safetensors",
        "run_folder": given.out / "first",
    }
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in range(given.seeds):
        for arm in ARMS:
            metrics = trained(given.out / f"{arm}_{seed}", dusk, seed, given.steps, begins[arm])
            found[arm].append(metrics)
            print(arm, seed, {name: round(metrics[name], 4) for name in METRICS}, file=sys.stderr)
    print(f"{given.steps} steps on {given.pairs} pairs | " + " | ".join(METRICS))
    for arm in ARMS:
        values = ([metrics[name] for metrics in found[arm]] for name in METRICS)
        print(arm, *(f"{statistics.mean(each):.4f} ± {statistics.pstdev(each):.4f}" for each in values), sep=" | ")
    rows = []
    for index in range(SHOWN):
        source, target = (dusk / "val" / side / f"{index:04}.png" for side in ("source", "target"))
        outputs = [np.asarray(p2pkit.load_model(given.out / f"{arm}_0")(source)) for arm in ARMS]
        rows.append(np.concatenate([np.asarray(Image.open(source)), *outputs, np.asarray(Image.open(target))], axis=1))
    grid = Image.fromarray(np.concatenate(rows))
    grid.resize((2 * grid.width, 2 * grid.height), Image.Resampling.NEAREST).save(given.out / "grid.png")


if __name__ == "__main__":
    main()
