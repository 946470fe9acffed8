"""A callback that ends a run which has stopped getting better."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any

from pydantic import Field

from p2pkit.run_contracts import TrainingRun


class EarlyStopping:
    """Ends the run once a validation metric has stopped getting better.

    Args:
        monitor: the metric; that of the recipe's [validation] unless given.
        patience: how many validations in a row are no better than the best when it ends the run.
        min_delta: by how much the metric has to be better to count as better.
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: Annotated[int, Field(gt=0)] = 5,
        min_delta: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.best, self.best_step, self.waited = -inf, 0, 0

    def on_validation_end(self, run: TrainingRun) -> None:
        """Count how many validations have passed since the best one."""
        score = run.score(self.monitor)
        if score > self.best + self.min_delta:
            self.best, self.best_step, self.waited = score, run.step, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            name = f"{self.monitor} of validation" if self.monitor else "the validation metric"
            run.stop(f"{name} has not become better since step {self.best_step}")

    def state_dict(self) -> dict[str, Any]:
        """The best score, its step, and how many validations have been no better."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.best, self.best_step, self.waited = state["best"], state["best_step"], state["waited"]
