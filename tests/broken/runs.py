"""Optimizers, schedules and callbacks that break their contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import SGD

from p2pkit.run_contracts import Position, TrainingRun
from p2pkit.testing import optimizers, runs
from tests.broken import Broken


class GoodOptimizer(SGD):
    """An optimizer as it should be."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr, momentum=0.9)


class HalfOfThem(GoodOptimizer):
    """An optimizer that leaves parameters out."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params[:1], lr)


class MovesAll(GoodOptimizer):
    """An optimizer that decays weights without a gradient too."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            parameter.mul_(0.9)


class RateOfItsOwn(GoodOptimizer):
    """An optimizer that does not look at the learning rate of its groups."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.param_groups[0]["lr"] = 0.1
        super().step(closure)


class Counting(GoodOptimizer):
    """An optimizer whose steps become smaller, by a count that is not in its state."""

    count = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.count += 1
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=self.param_groups[0]["lr"] / self.count)


class GoodSchedule:
    """A schedule as it should be, which goes by validation."""

    def __init__(self) -> None:
        self.factor, self.best = 1.0, -float("inf")

    def __call__(self, position: Position) -> Any:
        return self.factor

    def on_validation_end(self, run: TrainingRun) -> None:
        self.factor *= 1.0 if run.score() > self.best else 0.5
        self.best = max(self.best, run.score())

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "best": self.best}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.factor, self.best = state["factor"], state["best"]


class Negative(GoodSchedule):
    """A schedule that goes below zero."""

    def __call__(self, position: Position) -> Any:
        return 0.5 - position.progress


class CountsItsCalls(GoodSchedule):
    """A schedule that is not a function of the place in the run."""

    def __call__(self, position: Position) -> Any:
        self.factor *= 0.9
        return self.factor


class ForgetsTheBest(GoodSchedule):
    """A schedule whose state is not all of it."""

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "best": -float("inf")}


class Stateless:
    """A schedule that learns from validations and has no state."""

    factor = 1.0

    def __call__(self, position: Position) -> Any:
        return self.factor

    def on_validation_end(self, run: TrainingRun) -> None:
        self.factor *= 0.5


class GoodCallback:
    """A callback as it should be."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, run: TrainingRun) -> None:
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


class Misspelt(GoodCallback):
    """A callback with a method that nothing calls."""

    def on_step_ended(self, run: TrainingRun) -> None: ...


class NeedsALoss(GoodCallback):
    """A callback that takes for granted that losses have been logged."""

    def on_train_start(self, run: TrainingRun) -> None:
        raise KeyError("generator/gan")


class WritesEverywhere(GoodCallback):
    """A callback that writes on every process."""

    def on_train_end(self, run: TrainingRun) -> None:
        (run.run_dir / "end.txt").touch()


class Amnesiac(GoodCallback):
    """A callback that does not take its state back."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class OddState(GoodCallback):
    """A callback whose state no checkpoint holds."""

    def state_dict(self) -> dict[str, Any]:
        return {"seen": {self.steps}}


BROKEN = [
    Broken("optimizers", optimizers.optimizes_what_it_is_given, HalfOfThem, "1 parameters, not those it was given"),
    Broken("optimizers", optimizers.optimizes_what_it_is_given, GoodSchedule, "a GoodSchedule"),
    Broken("optimizers", optimizers.moves_what_has_a_gradient, MovesAll, "has moved it"),
    Broken("optimizers", optimizers.obeys_the_learning_rate, RateOfItsOwn, "at a thousandth of the rate"),
    Broken("optimizers", optimizers.resumes_exactly, Counting, "other weights one step after resuming"),
    Broken("schedules", runs.gives_factors, Negative, "before step 31 of 60"),
    Broken("schedules", runs.gives_factors, CountsItsCalls, "other factors when asked again"),
    Broken("schedules", runs.resumes_from_its_state, ForgetsTheBest, "other factors when resumed"),
    Broken("schedules", runs.resumes_from_its_state, Stateless, "no state_dict and load_state_dict"),
    Broken("callbacks", runs.has_events, Misspelt, "did you mean 'on_step_end'?"),
    Broken("callbacks", runs.takes_a_run, NeedsALoss, "KeyError: 'generator/gan'"),
    Broken("callbacks", runs.takes_a_run, WritesEverywhere, "it writes end.txt on a process beside the main one"),
    Broken("callbacks", runs.keeps_its_state, Amnesiac, "{'dict': [['steps', 0]]} after resuming"),
    Broken("callbacks", runs.keeps_its_state, OddState, "is a set; a checkpoint takes tensors"),
]
