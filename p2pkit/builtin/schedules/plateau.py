"""A schedule that goes by a validation metric."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any

from pydantic import Field

from p2pkit.run_contracts import Position, TrainingRun


class Plateau:
    """The learning rate falls once a validation metric has stopped getting better, as PyTorch's ReduceLROnPlateau.

    Args:
        monitor: the metric; that of the recipe's [validation] unless given.
        factor: what the rate is multiplied by.
        patience: how many validations in a row may be no better than the best before it falls.
        min_factor: it stays above this share of the optimizer's own rate.
    """

    def __init__(
        self,
        monitor: str | None = None,
        factor: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        patience: Annotated[int, Field(ge=0)] = 10,
        min_factor: Annotated[float, Field(ge=0, le=1)] = 0.0,
    ) -> None:
        self.monitor, self.factor, self.patience, self.min_factor = monitor, factor, patience, min_factor
        self.current, self.best, self.waited = 1.0, -inf, 0

    def __call__(self, position: Position) -> float:
        """The factor, which changes at validations alone."""
        return self.current

    def on_validation_end(self, run: TrainingRun) -> None:
        """Count how many validations have passed since the best one."""
        score = run.score(self.monitor)
        if score > self.best:
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.current, self.waited = max(self.current * self.factor, self.min_factor), 0

    def state_dict(self) -> dict[str, Any]:
        """The factor, the best score, and how many validations have been no better."""
        return {"current": self.current, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.current, self.best, self.waited = state["current"], state["best"], state["waited"]
