"""The reference's side of against_reference.py: its own options, data set and model, as its scripts drive them."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from turns import LEFT_OUT, MOST_BATCHES, Task, serve

from p2pkit.benchmarks.machine import counted_flop, waiting_for


def options(peer: str, device: str, training: bool, words: str) -> Any:
    """The reference's options, as they are parsed by its scripts."""
    sys.path.insert(0, peer)
    from options.test_options import TestOptions  # type: ignore[import-not-found]
    from options.train_options import TrainOptions  # type: ignore[import-not-found]

    gpu = "0" if device.startswith("cuda") else "-1"
    aside = tempfile.mkdtemp(prefix="peer-")
    sys.argv = ["train.py", *words.split(), "--gpu_ids", gpu, "--checkpoints_dir", aside, "--name", "peer"]
    return (TrainOptions() if training else TestOptions()).parse()


def train(pairs: str, device: str, batch_size: int, steps: int, peer: str) -> Task:
    """Steps of training, on batches that are in memory."""
    words = f"--model pix2pix --direction AtoB --num_threads 0 --batch_size {batch_size} --dataroot {pairs}"
    found, wait = options(peer, device, True, words), waiting_for(torch.device(device))
    from data import create_dataset  # type: ignore[import-not-found]
    from models import create_model  # type: ignore[import-not-found]

    model = create_model(found)
    model.setup(found)
    batches = [batch for _, batch in zip(range(min(steps, MOST_BATCHES)), create_dataset(found), strict=False)]

    def step(batch: Any) -> None:
        model.set_input(batch)
        model.optimize_parameters()

    step(batches[0])
    with counted_flop() as flop:
        step(batches[0])
    seconds = None
    while not (yield seconds):
        wait()
        began = time.perf_counter()
        for batch in islice(cycle(batches), steps):
            step(batch)
        wait()
        seconds = (time.perf_counter() - began) / steps
    yield {"flop": flop(), "threads": torch.get_num_threads()}


def load(pairs: str, device: str, batches: int, cache: str, peer: str) -> Task:
    """Pairs read, resized to 286, cropped to 256 and flipped by one worker; it has no ``cache``."""
    found = options(peer, "cpu", True, f"--model pix2pix --direction AtoB --num_threads 1 --dataroot {pairs}")
    from data import create_dataset

    dataset, seconds = create_dataset(found), None
    while not (yield seconds):
        passing = iter(dataset)
        for _ in range(LEFT_OUT):
            next(passing)
        began = time.perf_counter()
        for _ in range(batches - LEFT_OUT):
            next(passing)
        seconds = (time.perf_counter() - began) / (batches - LEFT_OUT)
        del passing
    yield {}


def translate(pairs: str, device: str, images: str, out: str, peer: str) -> Task:
    """The loop of its test.py: load, model.test(), save_image of the output; the page of HTML is left out."""
    words = f"--model test --netG unet_256 --norm batch --dataset_mode single --num_threads 0 --dataroot {images}"
    found = options(peer, device, False, words)
    found.batch_size, found.serial_batches, found.no_flip = 1, True, True
    from data import create_dataset
    from models import create_model
    from util.util import save_image, tensor2im  # type: ignore[import-not-found]

    model, folder, count = create_model(found), Path(out) / "peer", len(list(Path(images).iterdir()))
    dataset = create_dataset(found)

    def whole() -> None:
        folder.mkdir()
        for batch in dataset:
            model.set_input(batch)
            model.test()
            name = f"{Path(model.get_image_paths()[0]).stem}.png"
            save_image(tensor2im(model.get_current_visuals()["fake"]), str(folder / name))

    whole()
    seconds = None
    while not (yield seconds):
        shutil.rmtree(folder)
        began = time.perf_counter()
        whole()
        seconds = (time.perf_counter() - began) / count
    yield {}


if __name__ == "__main__":
    serve({"train": train, "load": load, "translate": translate})
