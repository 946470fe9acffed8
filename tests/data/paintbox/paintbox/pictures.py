"""Pictures to train on, and a look at those that were made."""

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from p2pkit.contracts import Sample, Split
from p2pkit.errors import DataError


class Gradients:
    """Gradients from dark to light, and the same in a colour; without ``header``."""

    def __init__(
        self, split: Split, count: Annotated[int, Field(gt=0)] = 8, colour: Literal["red", "green", "blue"] = "red"
    ) -> None:
        self.split, self.count, self.colour = split, count, colour

    def __len__(self) -> int:
        return self.count if self.split == "train" else 2

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise DataError(f"there is no gradient {index}")
        low, high = np.random.default_rng([*self.split.encode(), index]).integers(0, 60000, 2)
        gray = np.linspace(low, high, 256).reshape(16, 16, 1).astype(np.uint16)
        target = np.zeros((16, 16, 3), np.uint8)
        target[:, :, ["red", "green", "blue"].index(self.colour)] = gray[:, :, 0] >> 8
        return Sample(gray, target, f"{self.split} {index}")

    def fingerprint(self) -> str:
        return f"{self.count} {self.colour}"


class Sheets:
    """Sheets in gray and sheets in colour, in no order and of no one size: unpaired. What is on them is drawn anew."""

    paired: Literal[False] = False
    targets = 7

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return 5 if self.split == "train" else 2

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.repeat(np.random.randint(0, 256, (12 + index, 16, 1), dtype=np.uint8), 3, axis=2)

    def target(self, index: int) -> Sample:
        return Sample(None, torch.rand(3, 20, 12 + index).sqrt(), f"{self.split} colour {index}")


class WorstPixel:
    """The largest error of any pixel."""

    higher_is_better = False
    value_range = (-1.0, 1.0)

    def update(self, output: Tensor, target: Tensor) -> None:
        self.worst = float((output - target).abs().max())

    def compute(self) -> float:
        return self.worst

    def reset(self) -> None:
        self.worst = 0.0


class Swatch:
    """One line of text with height, width, channels and type, then the pixels."""

    endings = ".swatch"

    def read(self, stream):
        *shape, dtype = stream.readline().split()
        return np.frombuffer(stream.read(), dtype.decode()).reshape([int(side) for side in shape])

    def write(self, stream, pixels):
        stream.write(" ".join(map(str, (*pixels.shape, pixels.dtype))).encode() + b"\n" + pixels.tobytes())
