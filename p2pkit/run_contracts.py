"""What goes with a run, in types, beside contracts.py: optimizers, schedules and callbacks, and what they see of it.

Schedules and callbacks may have a state (contracts.Stateful), which checkpoints hold, and an attribute ``monitor``: the
name of the validation metric that they go by, None for the recipe's. They are refused where none is taken in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

EVENTS = ("on_train_start", "on_step_end", "on_validation_end", "on_checkpoint", "on_train_end")
"""The methods that a callback may have."""


class Position(NamedTuple):
    """A place in a run, before a step is made there."""

    progress: float
    """How far the run is, from 0 to 1, whichever limit ends it."""
    step: int
    """Steps that have been made."""
    epoch: float
    """Passes over the train set that have been made, with fractions."""


class OptimizerFactory(Protocol):
    """What makes a network's optimizer: a class of torch.optim, and any like it.

    Each group's ``lr`` is a number, which the schedule multiplies. State and options are tensors and plain values.
    """

    def __call__(self, *, params: list[nn.Parameter]) -> Optimizer:
        """An optimizer of ``params``, all of a network's; those without a gradient stay as they are in a step."""
        ...


class Schedule(Protocol):
    """What the learning rates of a run's optimizers are multiplied by: a function of the place in the run.

    It may have ``on_validation_end`` as a callback has; all processes then see the same metrics.
    """

    def __call__(self, position: Position, /) -> float:
        """The factor at ``position``, of at least 0; the same whenever it is asked, until the next validation."""
        ...


class TrainingRun(Protocol):
    """What callbacks see of a run, at one moment."""

    @property
    def step(self) -> int:
        """Steps that have been made."""
        ...

    @property
    def epoch(self) -> float:
        """Passes over the train set that have been made, with fractions."""
        ...

    @property
    def progress(self) -> float:
        """How far the run is, from 0 to 1, whichever limit ends it."""
        ...

    @property
    def losses(self) -> Mapping[str, float]:
        """The means that were last logged (``train.log_every``), over all processes: ``{"generator/l1": 0.1}``."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """The validation metrics of this very step, the same on all processes; empty where none are taken."""
        ...

    @property
    def run_dir(self) -> Path:
        """The run folder, in which the main process may write."""
        ...

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes."""
        ...

    def score(self, metric: str | None = None) -> float:
        """A number of ``metrics`` by its name ("mae"; the one that decides which checkpoint is the best by default).

        It is negated where lower is better, and NaN is -inf, so that higher is better. Raises RecipeError where there
        is no such number.
        """
        ...

    def stop(self, reason: str) -> None:
        """End the run, on all processes before their next step, as if a limit had been reached; it says why."""
        ...


class Callback(Protocol):
    """Called at a run's events on every process; any of these methods may be missing.

    It sees floats alone, so nothing waits for the device. What it raises ends the run, with a checkpoint.
    """

    def on_train_start(self, run: TrainingRun, /) -> None:
        """Before the first step, also where a run is resumed: ``run.step`` is then above 0."""
        ...

    def on_step_end(self, run: TrainingRun, /) -> None:
        """After each step, before that step's log, validation and checkpoint."""
        ...

    def on_validation_end(self, run: TrainingRun, /) -> None:
        """After validation metrics were taken: while training (``validation.every``), and at the end of the run."""
        ...

    def on_checkpoint(self, run: TrainingRun, /) -> None:
        """After a checkpoint and the model file were written."""
        ...

    def on_train_end(self, run: TrainingRun, /) -> None:
        """At the end of the run, after its metrics and the model were written; not where it is interrupted."""
        ...
