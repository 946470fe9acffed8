"""An optimizer, a schedule and a callback."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field
from torch import nn
from torch.optim import RMSprop

from p2pkit.run_contracts import Position, TrainingRun


def careful(
    params: Iterable[nn.Parameter],
    lr: Annotated[float, Field(gt=0)] = 1e-3,
    bias_lr: Annotated[float, Field(gt=0)] = 1e-4,
) -> RMSprop:
    """RMSprop with a learning rate of its own for biases, which come first."""
    every = list(params)
    groups = [{"params": [one for one in every if one.ndim == 1], "lr": bias_lr}]
    groups += [{"params": [one for one in every if one.ndim > 1]}]
    return RMSprop(groups, lr=lr)


class Layers:
    """The learning rate halves with each layer of paint.

    Args:
        steps: of each layer.
    """

    def __init__(self, steps: Annotated[int, Field(gt=0)] = 2) -> None:
        self.steps = steps

    def __call__(self, position: Position) -> float:
        return 0.5 ** (position.step // self.steps)


class Visitors:
    """Counts the steps that it has seen, and writes them down; it may close the run.

    Args:
        close_at: the step at which it does so.
    """

    def __init__(self, close_at: Annotated[int, Field(gt=0)] | None = None) -> None:
        self.close_at, self.seen = close_at, 0

    def on_step_end(self, run: TrainingRun) -> None:
        self.seen += 1
        if run.step == self.close_at:
            run.stop("the gallery closes")

    def on_train_end(self, run: TrainingRun) -> None:
        if run.is_main_process:
            (run.run_dir / "visitors.txt").write_text(f"{self.seen} of {run.step}")

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]
