"""The learning rate as a function of progress through the run, and the limits that define progress."""

from __future__ import annotations

import math
from dataclasses import dataclass

from p2pkit.settings import ScheduleSettings, TrainSettings, seconds_in


def learning_rate_factor(settings: ScheduleSettings, progress: float) -> float:
    """What the learning rate is multiplied by at ``progress`` (0 to 1) through the run."""
    if settings.name == "constant" or progress <= settings.decay_from:
        return 1.0
    decayed = min(1.0, (progress - settings.decay_from) / (1.0 - settings.decay_from))
    if settings.name == "linear_decay":
        return 1.0 - decayed
    return 0.5 * (1.0 + math.cos(math.pi * decayed))


@dataclass(frozen=True)
class Limits:
    """What ends a run: a number of steps, a time, or both, and then whichever comes first."""

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, settings: TrainSettings, steps_per_epoch: int) -> Limits:
        """The limits in a recipe's ``[train]``, in steps and seconds."""
        steps = min(settings.max_steps or math.inf, (settings.epochs or math.inf) * steps_per_epoch)
        return cls(
            None if steps == math.inf else int(steps), seconds_in(settings.max_time) if settings.max_time else None
        )

    def progress(self, step: int, seconds: float) -> float:
        """How far the run has come, 0 to 1 (1 or more: it is over)."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return max(by_steps, by_time)
