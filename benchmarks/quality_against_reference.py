"""Quality at equal steps: p2pkit's networks and the reference implementation's, trained alike and scored alike.

    python benchmarks/quality_against_reference.py --peer PATH --data ROOT

PATH is a clone of junyanz/pytorch-CycleGAN-and-pix2pix, ROOT a folder with ``train`` and ``test`` of images with source
and target side by side, or with ``train/NAME`` and ``test/NAME`` for two names. Each side has the same files, steps,
batch size, losses, rates, crops and flips, and no schedule. Outputs of the test set are written as 8-bit PNG at the
size trained at, with the noise and the statistics of a single image, and compared with the same targets. What is there
already is not trained again; several of these commands may share the work by ``--arms`` and ``--seeds``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ARMS = ("peer", "default", "reference")
METRICS = ("psnr", "lpips", "ssim", "mae")
SIZE, BATCH = 128, 4


def side_by_side(data: Path, out: Path) -> Path:
    """A folder whose images are pairs side by side, as the reference reads them."""
    for split in ("train", "test"):
        folders = sorted(each for each in (data / split).iterdir() if each.is_dir())
        if len(folders) != 2:
            return data
        (out / "pairs" / split).mkdir(parents=True, exist_ok=True)
        # source and target by the alphabet, the other way round where the drawing comes second
        source, target = sorted(folders, key=lambda folder: (folder.name not in ("outline", "source"), folder.name))
        for file in sorted(source.iterdir()):
            left, right = (Image.open(each).convert("RGB") for each in (file, target / file.name))
            pair = Image.new("RGB", (left.width + right.width, left.height))
            pair.paste(left, (0, 0))
            pair.paste(right, (left.width, 0))
            pair.save(out / "pairs" / split / f"{file.stem}.png")
    return out / "pairs"


def halves(file: Path) -> tuple[Image.Image, Image.Image]:
    """Source and target of a pair at SIZE, bicubic."""
    pair = Image.open(file).convert("RGB")
    boxes = ((0, 0, pair.width // 2, pair.height), (pair.width // 2, 0, pair.width, pair.height))
    first, second = (pair.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for box in boxes)
    return first, second


def train_peer(peer: Path, pairs: Path, out: Path, seed: int, steps: int) -> None:
    """Train the reference with its own options, data set and step, and write its outputs in the mode of its test.py."""
    import numpy as np
    import torch

    sys.path.insert(0, str(peer))
    from data import create_dataset  # type: ignore[import-not-found]
    from models import create_model  # type: ignore[import-not-found]
    from options.train_options import TrainOptions  # type: ignore[import-not-found]
    from util.util import tensor2im  # type: ignore[import-not-found]

    words = f"--model pix2pix --netG unet_{SIZE} --gpu_ids -1 --num_threads 1 --batch_size {BATCH} --direction AtoB"
    sizes = f"--load_size {round(SIZE * 286 / 256)} --crop_size {SIZE} --n_epochs 100000 --name peer"
    sys.argv = ["train.py", *words.split(), *sizes.split(), "--dataroot", str(pairs), "--checkpoints_dir", str(out)]
    options = TrainOptions().parse()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    dataset, model = create_dataset(options), create_model(options)
    model.setup(options)
    done = 0
    while done < steps:
        for batch in dataset:
            if len(batch["A"]) < BATCH or done == steps:
                continue
            model.set_input(batch)
            model.optimize_parameters()
            done += 1
            if done % 50 == 0:
                print(done, model.get_current_losses(), flush=True)
    (out / "outputs").mkdir(parents=True)
    for file in sorted((pairs / "test").iterdir()):
        source, target = (
            torch.from_numpy(np.asarray(each)).permute(2, 0, 1)[None] / 127.5 - 1 for each in halves(file)
        )
        model.set_input({"A": source, "B": target, "A_paths": [str(file)], "B_paths": [str(file)]})
        model.test()
        Image.fromarray(tensor2im(model.fake_B)).save(out / "outputs" / f"{file.stem}.png")


def recipe(pairs: Path, seed: int, steps: int, variant: dict[str, Any]) -> dict[str, Any]:
    """What the reference's options say, as a recipe."""
    tables: dict[str, Any] = {
        "run": {"name": "against_reference", "seed": seed, "trackers": []},
        "data": {"name": "side_by_side", "root": str(pairs), "direction": "AtoB", "split": 0},
        "loader": {"batch_size": BATCH, "workers": 0, "cache": "memory"},
        "transform": {"load_size": round(SIZE * 286 / 256), "crop_size": SIZE, "flip": True},
        "generator": {"name": "unet", "depth": 7},
        "discriminator": {"name": "patchgan_70"},
        "losses": [{"name": "gan"}, {"name": "l1", "weight": 100}],
        "method": {"name": "pix2pix"},
        "optimizer": {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]},
        "schedule": {"name": "constant"},
        "validation": {"baseline": "none", "every": 10**6},
        "train": {"max_steps": steps, "checkpoint_every": 100, "sample_every": steps},
    }
    return tables | variant


def train_ours(pairs: Path, out: Path, seed: int, steps: int, variant: dict[str, Any]) -> None:
    """Train p2pkit on the same pairs, and write what it makes of the test set."""
    import p2pkit

    run = out / "run"
    if (run / "recipe.toml").exists():
        p2pkit.resume(run, device="cpu")
    else:
        p2pkit.train(recipe(pairs, seed, steps, variant), out=run, device="cpu")
    translate = p2pkit.load_model(run / "model.safetensors", device="cpu")
    (out / "outputs").mkdir(parents=True)
    for file in sorted((pairs / "test").iterdir()):
        source, _ = halves(file)
        translate(source, size="native", seed=seed).save(out / "outputs" / f"{file.stem}.png")


def variant_of(arm: str) -> dict[str, Any]:
    """The keys of a published variant, over the defaults."""
    if arm == "default":
        return {}
    losses = [{"name": "gan", "order": "fake_real"}, {"name": "l1", "weight": 100}]
    return {"generator": {"name": "unet", "depth": 7, "dropout_blocks": [2, 3]}, "losses": losses}


def scores(outputs: Path, targets: Path, lpips: Path | None) -> dict[str, float]:
    """Means over the test set."""
    import p2pkit

    overrides = {} if lpips is None else {f"metrics.{METRICS.index('lpips')}.weights": str(lpips)}
    return dict(p2pkit.compare(outputs, targets, metrics=list(METRICS), overrides=overrides).rows["outputs"])


def main() -> None:
    """Train what is not there, print the scores of each seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a clone of the reference implementation")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/against_reference"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lpips", type=Path, help="weights of LPIPS, unless torch's hub cache has them")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    out = given.out.absolute()
    pairs = side_by_side(given.data.absolute(), out)
    if given.inside:
        arm, seed = given.arms[0], given.seeds[0]
        train_peer(given.peer.absolute(), pairs, out / f"{arm}_{seed}", seed, given.steps)
        return
    (out / "targets").mkdir(parents=True, exist_ok=True)
    for file in sorted((pairs / "test").iterdir()):
        halves(file)[1].save(out / "targets" / f"{file.stem}.png")
    from p2pkit.sweeps.results import mean_over

    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in given.arms}
    for seed in given.seeds:
        for arm in given.arms:
            folder = out / f"{arm}_{seed}"
            if not (folder / "scores.json").exists():
                if arm == "peer":
                    words = [sys.executable, __file__, *sys.argv[1:], "--inside", "--arms", arm, "--seeds", str(seed)]
                    subprocess.run(words, check=True, env=os.environ)
                else:
                    train_ours(pairs, folder, seed, given.steps, variant_of(arm))
                (folder / "scores.json").write_text(
                    json.dumps(scores(folder / "outputs", out / "targets", given.lpips))
                )
            found[arm].append(json.loads((folder / "scores.json").read_text()))
            print(arm, seed, found[arm][-1], flush=True)
    print(f"{given.steps} steps | " + " | ".join(METRICS))
    for arm, rows in found.items():
        print(arm, *(mean_over([row[name] for row in rows]) for name in METRICS), sep=" | ")


if __name__ == "__main__":
    main()
