"""Fifty drawn façades at 64 pixels, with and without discriminator augmentation: LPIPS and SSIM on others.

Trains each arm with each seed (what is already in --out is left as it is), prints a line a checkpoint, then the means
over the seeds with their standard deviation, and writes a grid: source | target | each arm. The weights that --lpips
names are AlexNet's, under torchvision's names, and LPIPS's heads, lin0.weight to lin4.weight.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import p2pkit
from p2pkit.build import build
from p2pkit.builtin.losses.structure import structural_similarity
from p2pkit.data.sets import Data
from p2pkit.recipe.resolve import read_recipe
from p2pkit.training.sample_grids import sample_grid

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
RECIPE = """
extends = "{quickstart}"

[run]
name = "{name}"
seed = {seed}

[data]
size = 64
pairs = 50
test_pairs = 100

[transform]
load_size = 64
crop_size = 64

[generator]
depth = 5

[schedule]
name = "constant"

[train]
max_steps = {steps}
max_time = "24h"
checkpoint_every = {every}
keep_checkpoints = 100
sample_every = {every}

[discriminator_augmentation]
{augmentation}
"""
ALL = 'policy = ["colour", "translation", "cutout"]'
ARMS = {
    "none": "policy = []",
    "fixed": ALL,
    # fast enough for a run of a few thousand images, where ADA's has millions
    "adaptive_0.6": f"{ALL}\nadaptive_target = 0.6\nadaptive_images = 3000",
    "adaptive_0.3": f"{ALL}\nadaptive_target = 0.3\nadaptive_images = 3000",
}
SHOWN = (3, 21, 47, 70)
Score = Callable[[Tensor, Tensor], float]


def train(out: Path, arm: str, seed: int, steps: int, every: int) -> Path:
    """The run folder of one arm and seed."""
    run, recipe = out / f"{arm}_{seed}", out / f"{arm}_{seed}.toml"
    if (run / "model.safetensors").exists() and (run / "checkpoints" / f"step_{steps:08}").exists():
        return run
    own = {"name": recipe.stem, "seed": seed, "augmentation": ARMS[arm]}
    recipe.write_text(RECIPE.format(quickstart=QUICKSTART, steps=steps, every=every, **own))
    command = [sys.executable, "-m", "p2pkit", "run", str(recipe), "--out", str(run), "--continue", "--device", "cpu"]
    with (out / f"{recipe.stem}.log").open("w") as log:
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=threads)
    return run


def lpips(weights: Path) -> Score:
    """LPIPS v0.1 with AlexNet (Zhang et al. 2018) of images [N, 3, H, W] in [-1, 1], the mean over N."""
    tensors = load_file(weights)
    shift, scale = (torch.tensor(three).view(1, 3, 1, 1) for three in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))

    def features(image: Tensor) -> Iterator[Tensor]:
        values = (image - shift) / scale
        for number, (layer, stride, padding) in enumerate([(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]):
            values = F.max_pool2d(values, 3, 2) if number in (1, 2) else values
            weight, bias = (tensors[f"features.{layer}.{name}"] for name in ("weight", "bias"))
            values = F.conv2d(values, weight, bias, stride, padding).relu()
            yield values / (values.square().sum(1, keepdim=True).sqrt() + 1e-10)

    def score(output: Tensor, target: Tensor) -> float:
        heads = (tensors[f"lin{number}.weight"] for number in range(5))
        layers = zip(features(output), features(target), heads, strict=True)
        return sum(float(F.conv2d((one - other).square(), head).mean()) for one, other, head in layers)

    return score


def ssim(output: Tensor, target: Tensor) -> float:
    """The structural similarity, the mean over images."""
    return float(structural_similarity(output, target).mean())


@torch.no_grad()
def measured(run: Path, step: int, data: Data, scores: dict[str, Score]) -> tuple[dict[str, float], Tensor]:
    """What a checkpoint scores on the test set, what its discriminator takes for real, and the outputs."""
    tensors = load_file(run / "checkpoints" / f"step_{step:08}" / "networks.safetensors")

    def own(network: str) -> dict[str, Tensor]:
        head = f"{network}|"
        return {name.removeprefix(head): value for name, value in tensors.items() if name.startswith(head)}

    translator = p2pkit.load_model(run, "cpu")
    translator.generator.load_state_dict(own("generator"))
    discriminator = build(read_recipe(run / "recipe.toml"), data).discriminator.eval()
    discriminator.load_state_dict(own("discriminator"))

    def images(split: str) -> tuple[Tensor, Tensor]:
        samples = getattr(data, split)
        sides = zip(*(data.spec.tensors(samples[index]) for index in range(len(samples))), strict=True)
        source, target = map(torch.stack, sides)
        return source, target

    def real_to_it(source: Tensor, image: Tensor) -> float:
        return float((discriminator(source, image) > 0).float().mean())

    source, target = images("test")
    output = translator(source)
    values = {name: score(output, target) for name, score in scores.items()}
    values["train targets real"] = real_to_it(*images("train"))
    values["test targets real"] = real_to_it(source, target)
    values["test outputs real"] = real_to_it(source, output)
    return values, output


def grid(file: Path, data: Data, outputs: dict[str, Tensor]) -> None:
    """Write rows of source | target | each arm's output."""
    rows = []
    for index in SHOWN:
        rows.append([*data.spec.tensors(data.test[index]), *(output[index] for output in outputs.values())])
    picture = Image.fromarray(sample_grid(rows))
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(file, optimize=True)


def main() -> None:
    """Train, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/discriminator_augmentation"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--every", type=int, default=1000, help="steps between the checkpoints that are measured")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, a thread each")
    parser.add_argument("--lpips", type=Path, help="a safetensors file of weights; without it LPIPS is left out")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(given.jobs) as pool:
        jobs = list(product(given.arms, given.seeds))
        runs = list(pool.map(lambda job: train(given.out, *job, given.steps, given.every), jobs))
    data = p2pkit.load_data(read_recipe(runs[0] / "recipe.toml"))
    scores: dict[str, Score] = {"ssim": ssim, **({"lpips": lpips(given.lpips)} if given.lpips else {})}
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    shown = {}
    for (arm, seed), run in zip(jobs, runs, strict=True):
        for step in range(given.every, given.steps + 1, given.every):
            values, output = measured(run, step, data, scores)
            print(arm, seed, step, {name: round(value, 4) for name, value in values.items()}, flush=True)
            found.setdefault((arm, step), []).append(values)
            if (seed, step) == (given.seeds[0], given.steps):
                shown[arm] = output
    for (arm, step), several in found.items():
        means = []
        for name in several[0]:
            of_seeds = [values[name] for values in several]
            means.append(f"{name} {statistics.mean(of_seeds):.4f} ± {np.std(of_seeds, ddof=len(of_seeds) > 1):.4f}")
        print(f"{arm}, step {step}: {', '.join(means)}")
    grid(given.out / "grid.png", data, shown)


main()
