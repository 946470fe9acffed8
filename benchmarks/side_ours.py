"""p2pkit's side of against_reference.py: its own trainer, loader and translator."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from turns import LEFT_OUT, Task, serve

from p2pkit.benchmarks.machine import counted_flop, matrix_ceiling, waiting_for
from p2pkit.benchmarks.timed import timed_trainer
from p2pkit.distributed.accelerator import choose_device
from p2pkit.inference.files import FileOptions
from p2pkit.inference.model_file import write_model
from p2pkit.inference.translator import load_model
from p2pkit.recipe.resolve import read_recipe


def tables(pairs: str, batch_size: int, workers: int, load_size: int) -> dict[str, Any]:
    """What the reference's options say, as a recipe."""
    return {
        "run": {"name": "against_reference", "trackers": []},
        "data": {"name": "side_by_side", "root": pairs, "direction": "AtoB", "split": 0},
        "loader": {"batch_size": batch_size, "workers": workers},
        "transform": {"load_size": load_size, "crop_size": 256, "flip": True},
        "generator": {"name": "unet", "depth": 8},
        "discriminator": {"name": "patchgan_70"},
        "losses": [{"name": "gan"}, {"name": "l1", "weight": 100}],
        "method": {"name": "pix2pix"},
        "optimizer": {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]},
        "schedule": {"name": "constant"},
        "metrics": [{"name": "mae"}],
        "train": {"epochs": 200, "log_every": 100},
    }


def train(pairs: str, device: str, batch_size: int, steps: int) -> Task:
    """Steps of training, on batches that are in memory."""
    wait = waiting_for(choose_device(device))
    with timed_trainer(read_recipe(tables(pairs, batch_size, 0, 286)), device) as trainer:
        batches = [trainer.load() for _ in range(steps)]
        trainer.step(batches[0])
        with counted_flop() as flop:
            trainer.step(batches[0])
        seconds = None
        while not (yield seconds):
            wait()
            began = time.perf_counter()
            for batch in batches:
                trainer.step(batch)
            wait()
            seconds = (time.perf_counter() - began) / steps
        yield {"flop": flop(), "threads": torch.get_num_threads()}


def load(pairs: str, device: str, batches: int) -> Task:
    """Pairs read, resized to 286, cropped to 256 and flipped by one worker."""
    recipe = tables(pairs, 1, 1, 286)
    for network in ("generator", "discriminator"):  # nothing goes through them
        recipe[network] = {**recipe[network], "width": 4}
    seconds = None
    with timed_trainer(read_recipe(recipe), device) as trainer:
        while not (yield seconds):
            for _ in range(LEFT_OUT):
                trainer.load()
            began = time.perf_counter()
            for _ in range(batches - LEFT_OUT):
                trainer.load()
            seconds = (time.perf_counter() - began) / (batches - LEFT_OUT)
    yield {}


def translate(pairs: str, device: str, images: str, out: str) -> Task:
    """A folder of images through a model, each decoded and its output encoded."""
    file, folder, count = Path(out) / "model.safetensors", Path(out) / "ours", len(list(Path(images).iterdir()))
    with timed_trainer(read_recipe(tables(pairs, 1, 0, 256)), "cpu") as trainer:
        write_model(file, trainer.trained.networks["generator"].state_dict(), trainer.parts.header.trained(0, {}))
    translator, seconds = load_model(file, device), None
    options = FileOptions(format="png", stored_as="image")
    translator.files([images], folder, options)
    while not (yield seconds):
        shutil.rmtree(folder)
        began = time.perf_counter()
        report = translator.files([images], folder, options)
        seconds = (time.perf_counter() - began) / count
        assert report.done == count, report
    yield {}


def ceiling(device: str) -> Task:
    """The fastest matrix product of several sizes, as seconds of a FLOP."""
    chosen, seconds = choose_device(device), None
    while not (yield seconds):
        seconds = 1 / matrix_ceiling(chosen)
    yield {}


if __name__ == "__main__":
    serve({"train": train, "load": load, "translate": translate, "ceiling": ceiling})
