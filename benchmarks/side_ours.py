"""p2pkit's side of against_reference.py: its own trainer, loader and translator."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from floor import bandwidth, counted_bytes
from turns import LEFT_OUT, MOST_BATCHES, Task, serve

from p2pkit.benchmarks.machine import counted_flop, matrix_ceiling, waiting_for
from p2pkit.benchmarks.timed import timed_trainer
from p2pkit.distributed.accelerator import choose_device
from p2pkit.inference.files import FileOptions
from p2pkit.inference.model_file import write_model
from p2pkit.inference.translator import load_model
from p2pkit.recipe.resolve import read_recipe
from p2pkit.training.recorded_steps import WARM_UP


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


def train(
    pairs: str, device: str, batch_size: int, steps: int, settings: Mapping[str, Any] | None = None,
    channels_last: bool = False, cudnn_benchmark: bool = False,
) -> Task:  # fmt: skip
    """Steps of training, on batches that are in memory, by the recipe with ``settings`` on top of it."""
    torch.backends.cudnn.benchmark = cudnn_benchmark
    wait = waiting_for(choose_device(device))
    with timed_trainer(read_recipe(tables(pairs, batch_size, 0, 286), settings or {}), device) as trainer:
        for network in trainer.trained.networks.values() if channels_last else ():
            network.to(memory_format=torch.channels_last)
        batches = [trainer.load() for _ in range(min(steps, MOST_BATCHES))]
        trainer.step(batches[0])
        with torch.compiler.set_stance("force_eager"):  # what counts sees nothing of a compiled network
            with counted_flop() as flop:
                trainer.step(batches[0])
            with counted_bytes(trainer.trained) as moved:
                trainer.step(batches[0])
        for _ in range(WARM_UP if choose_device(device).type != "cpu" else 0):  # and what is recorded of a step
            trainer.step(batches[0])
        seconds = None
        while not (yield seconds):
            wait()
            began = time.perf_counter()
            for batch in islice(cycle(batches), steps):
                trainer.step(batch)
            wait()
            seconds = (time.perf_counter() - began) / steps
        recorded, threads = getattr(trainer.steps, "recorded", False), torch.get_num_threads()
        yield {"flop": flop(), "bytes": moved(), "threads": threads, "recorded": recorded}


def load(pairs: str, device: str, batches: int, cache: str) -> Task:
    """Pairs read, resized to 286, cropped to 256 and flipped by one worker, from the second epoch on."""
    recipe = tables(pairs, 1, 1, 286)
    recipe["loader"] |= {"cache": cache}
    for network in ("generator", "discriminator"):  # nothing goes through them
        recipe[network] = {**recipe[network], "width": 4}
    seconds = None
    with timed_trainer(read_recipe(recipe), device) as trainer:
        for _ in range(batches):
            trainer.load()
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


def limits(device: str, dtypes: Sequence[str], size: int) -> Task:
    """At its end: FLOP/s of the fastest matrix product of each type, and bytes/s by copies of ``size`` bytes."""
    chosen = choose_device(device)
    while not (yield 0.0):
        pass
    rates = {name: matrix_ceiling(chosen, getattr(torch, name)) for name in dtypes}
    yield {"flop_per_second": rates, "bytes_per_second": bandwidth(chosen, size)}


if __name__ == "__main__":
    serve({"train": train, "load": load, "translate": translate, "ceiling": ceiling, "limits": limits})
