"""What a run is made of, live: the assembly's gift to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from p2pkit.contracts import Method, PairedDataset
from p2pkit.data.augmentation import PairTransform
from p2pkit.inference.model_file import ModelHeader
from p2pkit.settings import (
    Interval,
    LoaderSettings,
    OptimizerSettings,
    RunSettings,
    ScheduleSettings,
    TrainSettings,
)
from p2pkit.training.pair_form import PairForm

Translate = Callable[[Tensor], Tensor]
"""Sources [1, Cs, H, W] in [-1, 1] to outputs [1, Ct, H, W]."""


Report = Callable[[Sequence[str]], None]
"""Takes the messages on pairs that could not be used and were left out."""


class Evaluation(Protocol):
    """Measures translators on the held-out pairs.

    ``before_each`` is called before each pair, and may raise; ``report`` is told of those left out.
    """

    @property
    def every(self) -> Interval | None:
        """How often to measure while training; None to do so at the end alone."""
        ...

    def figures(self, translate: Translate, before_each: Callable[[], None], report: Report) -> dict[str, float]:
        """The metrics of ``translate`` as ``held_out/NAME``; {} when there is nothing to measure."""
        ...

    def baseline(self, before_each: Callable[[], None], report: Report) -> dict[str, float]:
        """The metrics of the baseline as ``BASELINE/NAME``; {} when there is nothing to measure."""
        ...

    def score(self, figures: Mapping[str, float]) -> float:
        """One number for the figures of a translator; the higher, the better."""
        ...


@dataclass(frozen=True)
class TrainingParts:
    """Everything that a run is made of, live."""

    run: RunSettings
    loader: LoaderSettings
    optimizers: Mapping[str, OptimizerSettings]
    schedule: ScheduleSettings
    train: TrainSettings
    pairs: PairedDataset
    held_out: PairedDataset
    form: PairForm
    """What all pairs have in common, and how their values become those of tensors."""
    transform: PairTransform
    method: Method
    header: ModelHeader
    """The model file's header, but for step and metrics."""
    evaluation: Evaluation
    picture: Translate | None
    """Pictures [1, 3, H, W] of sources [1, Cs, H, W] for sample grids; None where sources are pictures themselves."""
