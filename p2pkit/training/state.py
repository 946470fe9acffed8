"""How far a run has come: all that a checkpoint holds beside weights and optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from p2pkit.training.identity import Identity
from p2pkit.training.metrics_log import MetricsWindow


class Best(NamedTuple):
    """The step with the best validation metrics so far, and their score (see Validation.score)."""

    step: int
    score: float


@dataclass
class RunState:
    """The step that has been made, the seconds it took to get there, and what has been seen on the way."""

    step: int = 0
    seconds: float = 0.0
    window: MetricsWindow = field(default_factory=MetricsWindow)
    best: Best | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """The validation metrics of this very step, when it has been measured."""
    finished: bool = False
    """The metrics of the run's end, the baseline's among them, are taken."""
    stopped: str = ""
    """Why a callback has ended the run before its limit."""
    expected: list[float] | None = None
    """How many seconds a validation takes, and how many more the trivial rows at the end, as the first step found."""
    identity: Identity = field(default_factory=Identity)
    """Which run it is, and by what it is trained."""

    def as_json(self, shared: Callable[[Mapping[str, float]], dict[str, float]]) -> dict[str, Any]:
        """The state in types that JSON knows; ``shared`` turns one process's sums into those of all."""
        window = self.window.state()
        return {
            "seconds": self.seconds,
            "window": {**window, "sums": shared(window["sums"])},
            "best": self.best,
            "metrics": self.metrics,
            "finished": self.finished,
            "stopped": self.stopped,
            "expected": self.expected,
            "run": self.identity.as_json(),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> RunState:
        """The state that :meth:`as_json` gave, from a checkpoint's progress."""
        window, best = MetricsWindow(**saved.get("window", {})), saved.get("best")
        best = None if best is None else Best(*best)
        return cls(
            saved["step"], saved.get("seconds", 0.0), window, best, saved.get("metrics", {}),
            saved.get("finished", False), saved.get("stopped", ""), saved.get("expected"),
            Identity.from_json(saved["run"]),
        )  # fmt: skip

    def rewritten(self) -> set[str]:
        """The splits whose lines of this step, if there are any, are written again after resuming from here."""
        splits = set() if self.finished else {"baseline"}
        if self.window:
            splits.add("train")  # was still open when the checkpoint was written
        if not self.metrics:
            splits.add("validation")
        return splits
