"""Model files that are spoilt with right checksums, and commands that are given them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from p2pkit.utils.tensor_file import checksum
from tests.conftest import untrained_model
from tests.model_files import change, change_header, described


def small_model(folder: Path, **parameters: Any) -> Path:
    return untrained_model(
        folder / "model.safetensors", "unet", **{"depth": 2, "width": 2, "norm": "none", **parameters}
    )


def picture(folder: Path, side: int = 16) -> Path:
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def inspect(folder: Path, spoil: Callable[[Path], object], *more: str) -> Sequence[object]:
    file = small_model(folder)
    spoil(file)
    return ["inspect", file, *more]


def translate(folder: Path, spoil: Callable[[Path], object], *options: str) -> Sequence[object]:
    file = small_model(folder)
    spoil(file)
    return [*options, "translate", file, picture(folder), "--out", folder / "out", "--device", "cpu"]


def export(folder: Path, spoil: Callable[[Path], object]) -> Sequence[object]:
    file = small_model(folder)
    spoil(file)
    return ["export", file, "--out", folder / "a.onnx"]


def evaluate(folder: Path, spoil: Callable[[Path], object]) -> Sequence[object]:
    file = small_model(folder)
    spoil(file)
    return ["evaluate", file, "--device", "cpu"]


def header(name: str, value: Any) -> Callable[[Path], object]:
    return lambda file: change_header(file, **{name: value})


def said(**values: Any) -> Callable[[Path], object]:
    return lambda file: change(file, **values)


def without(name: str) -> Callable[[Path], object]:
    def spoil(file: Path) -> None:
        header = described(file)["header"]
        del header[name]
        change(file, header=header)

    return spoil


def of_text(text: str) -> Callable[[Path], object]:
    """A header that is this text."""

    def spoil(file: Path) -> None:
        save_file(load_file(file), file, metadata={"p2pkit": text})

    return spoil


def weights(alter: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """Other weights, and the checksum of these."""

    def spoil(file: Path) -> None:
        weights = load_file(file)
        alter(weights)
        change(file, weights, sha256_of_the_weights=checksum(weights))

    return spoil


def filled(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda weights: next(iter(weights.values())).view(-1)[:1].fill_(value)


def named(value: Any) -> str:
    return ascii(value)[:90]
