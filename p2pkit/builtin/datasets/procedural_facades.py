"""Drawn house fronts with their label maps: a data set that needs no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from p2pkit.builtin.datasets.facade_drawing import REVISION, draw_facade
from p2pkit.builtin.datasets.facade_drawing.palette import CLASSES
from p2pkit.contracts import Direction, Sample, SampleHeader, Split

Side = Annotated[int, Field(ge=32)]
Size = Side | tuple[Side, Side]
SPLIT_NUMBERS: dict[Split, int] = {"train": 0, "test": 1, "val": 2}


@dataclass(frozen=True)
class ProceduralFacades:
    """Drawn house fronts (A) with label maps in the classes and colours of the CMP facade database (B).

    Every pair is drawn when it is asked for, and is the same on every machine.

    Args:
        split: Which split to give, "train", "val" or "test". They have no drawing in common.
        size: Pixels of a side of the pictures, or [height, width]; at least 32.
        pairs: How many pairs the train set has.
        val_pairs: How many pairs the val set has; it may be 0.
        test_pairs: How many pairs the test set has; it may be 0.
        seed: Another seed gives other facades.
        direction: "BtoA" has the labels as source and the photo as target; "AtoB" the other way round.
    """

    split: Split
    size: Size = 256
    pairs: Annotated[int, Field(gt=0)] = 400
    val_pairs: Annotated[int, Field(ge=0)] = 100
    test_pairs: Annotated[int, Field(ge=0)] = 100
    seed: Annotated[int, Field(ge=0)] = 0
    direction: Direction = "BtoA"

    @property
    def classes(self) -> dict[str, tuple[int, int, int]]:
        """The name and colour of each class in the sources; none where these are photos."""
        return CLASSES if self.direction == "BtoA" else {}

    def __len__(self) -> int:
        return {"train": self.pairs, "val": self.val_pairs, "test": self.test_pairs}[self.split]

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"the {self.split} split has {len(self)} facades: there is none at {index}")
        (height, width, _), _, key, *_ = self.header(index)
        photo, labels = draw_facade(self.seed, SPLIT_NUMBERS[self.split], index, height, width)
        source, target = (labels, photo) if self.direction == "BtoA" else (photo, labels)
        return Sample(source, target, key)

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``, which are those of all."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        shape = (height, width, 3)
        return SampleHeader(shape, shape, f"{self.split}_{index:05d}")

    def fingerprint(self) -> str:
        """A short text that changes when the data changes."""
        height, width, _ = self.header(0).source
        return (
            f"procedural_facades r{REVISION} {self.split} {height}x{width} {len(self)} seed {self.seed} "
            f"{self.direction}"
        )
