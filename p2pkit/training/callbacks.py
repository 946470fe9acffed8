"""The callbacks of a run: called at its events, heard when they want it to end, named when they fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from p2pkit.distributed.collectives import all_gather_text
from p2pkit.errors import RecipeError, did_you_mean, reason
from p2pkit.run_contracts import EVENTS


@dataclass
class Callbacks:
    """What is called at a run's events, by the names of ``origins``, on one process; and what became of that."""

    each: Mapping[str, Any]
    origins: Mapping[str, str]
    """What messages call each, with its distribution."""
    reason: str = ""
    """Why one of them wants the run to end."""
    failure: str = ""
    """How one of them has failed; it is not raised before all processes know of it."""
    asked: bool = False
    """There is a reason or a failure."""

    def call(self, event: str, run: RunView) -> None:
        """Call the method ``event`` of each that has it."""
        for name, callback in self.each.items():
            try:
                getattr(callback, event, _nothing)(run)
            except Exception as error:
                why = f"{self.origins[name]} fails in {event}: {reason(error)}"
                self.asked, self.failure = True, self.failure or why

    def shared(self, accelerator: Accelerator) -> tuple[str, str]:
        """Why those of any process want the run to end, and how they have failed; on every process."""
        texts = all_gather_text(accelerator, json.dumps([self.reason, self.failure]))
        reasons, failures = zip(*map(json.loads, texts), strict=True)
        return next(filter(None, reasons), ""), "\n".join(dict.fromkeys(filter(None, failures)))

    def stop(self, reason: str) -> None:
        """Take note that one of them wants the run to end."""
        self.asked = True
        self.reason = self.reason or str(reason) or "a callback has asked for it"


def _nothing(run: RunView) -> None:
    """What a callback without a method for an event does."""


@dataclass(frozen=True)
class RunView:
    """A run at one moment (run_contracts.TrainingRun)."""

    progress: float
    step: int
    epoch: float
    losses: Mapping[str, float]
    metrics: Mapping[str, float]
    run_dir: Path
    is_main_process: bool
    score_of: Callable[[Mapping[str, float], str | None], float]
    callbacks: Callbacks

    def score(self, metric: str | None = None) -> float:
        """A number of ``metrics`` by its name, negated where lower is better."""
        return self.score_of(self.metrics, metric)

    def stop(self, reason: str) -> None:
        """End the run before the next step."""
        self.callbacks.stop(reason)


def refuse_unusable(callback: Any, origin: str) -> None:
    """Refuse what is not a callback, and methods that nothing would call.

    Raises:
        RecipeError: it is one of these.
    """
    if isinstance(callback, type):
        raise RecipeError(f"{origin} is a class; give an object of it, as in {callback.__name__}()")
    named = [name for name in dir(callback) if name.startswith("on_") and callable(getattr(callback, name))]
    for name in named:
        if name not in EVENTS:
            known = f"callbacks have {', '.join(EVENTS)}"
            raise RecipeError(f"{origin} has {name}, which nothing calls{did_you_mean(name, EVENTS)}; {known}")
    if not named:
        raise RecipeError(
            f"{origin} is a {type(callback).__name__}, expected an object with methods {', '.join(EVENTS)}, or some"
        )
