"""Runs that end before their limit: what ends them is told, and also what fails while they are ended."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from p2pkit.contracts import Batch
from p2pkit.distributed.collectives import on_every_process
from p2pkit.errors import DataError, NotFiniteError, P2PKitError, reason
from p2pkit.training.identity import Identity
from p2pkit.training.not_finite import keep_step
from p2pkit.training.outputs import Outputs
from p2pkit.training.state import RunState
from p2pkit.utils.signals import Interruption

E = TypeVar("E", bound=P2PKitError)


def told_with(first: E, work: Callable[[], str], interruption: Interruption, otherwise: Callable[[], str]) -> E:
    """``first``, and below it what ``work`` says, which saves what can be saved: or that it fails, and ``otherwise``.

    A second signal, which ends the process at once meanwhile, leaves ``first`` printed.
    """
    interruption.last_words = f"Error: {first}\n"
    try:
        said = work()
    except Exception as second:
        said = f"What was to be saved then could not be: {reason(second)}\n{otherwise()}"
    interruption.last_words = ""
    return type(first)(f"{first}\n{said}")


class FailedStep(NamedTuple):
    """A step whose loss or gradient is NaN or infinite."""

    before: int
    """How many steps had been made."""
    keys: Sequence[str]
    """The samples of this process's share of the batch."""
    progress: float
    """How far the run was (contracts.Update)."""
    identity: Identity
    """Which run it is of."""


@dataclass
class Ending:
    """What a run leaves where it ends before its limit, and says of it. Every process calls the same methods."""

    outputs: Outputs
    interruption: Interruption
    resume_command: Callable[[bool], str]
    """What a person types to resume the run, with True although its data has changed."""

    def with_checkpoint(self, error: E, state: RunState) -> E:
        """``error`` and how to resume, once a checkpoint is written; as it is before the first step."""
        if state.step == 0:
            return error

        def write() -> str:
            self.outputs.save(state, {})
            data = isinstance(error, DataError)
            lead = "The data ends the run. Once it is mended, go on: " if data else "The run ends: "
            return lead + self.how_to_resume(state.step, data)

        return told_with(error, write, self.interruption, self.last_checkpoint)

    def before_it_spreads(
        self, error: NotFiniteError, failed: FailedStep, batch: Callable[[], Batch]
    ) -> NotFiniteError:
        """``error`` and all that is known of its step, once this process's share of the ``batch`` and the networks,
        which are as they were then, are kept."""
        left = self.outputs.folder.not_finite(step := failed.before + 1)
        first = NotFiniteError(
            f"step {step}: {error}. The files were {', '.join(failed.keys)}. Lower optimizer.lr, set "
            "optimizer.clip_gradient_norm, or look at the files."
        )

        def keep() -> str:
            accelerator, trained = self.outputs.accelerator, self.outputs.trained
            share = on_every_process(accelerator, batch)
            keep_step(accelerator, left, share, failed.progress, trained, failed.identity)
            return (
                "The batch and the networks as they were are kept; to see where it began:\n"
                f"  p2pkit replay {shlex.quote(str(left))}\n{self.last_checkpoint()}"
            )

        return told_with(first, keep, self.interruption, self.last_checkpoint)

    def how_to_resume(self, step: int, although_data_changed: bool = False) -> str:
        """That a checkpoint of ``step`` is written, and what resumes from it."""
        return f"a checkpoint of step {step} is written. To resume:\n  {self.resume_command(although_data_changed)}"

    def last_checkpoint(self) -> str:
        """Which checkpoint there is, and what resumes from it."""
        if (saved_at := self.outputs.saved_at) < 0:
            return "No checkpoint had been written"
        return f"The checkpoint of step {saved_at} is good; to resume from there:\n  {self.resume_command(False)}"
