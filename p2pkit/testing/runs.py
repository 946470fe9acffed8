"""The contracts of what goes with a run: schedules and callbacks (run_contracts.Schedule, run_contracts.Callback)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from p2pkit.contracts import Stateful
from p2pkit.run_contracts import EVENTS, Position
from p2pkit.testing.checks import Subject, contract, require
from p2pkit.training.callbacks import Callbacks, RunView, refuse_unusable
from p2pkit.training.state_dicts import put_back, take_states

STEPS, STEPS_PER_EPOCH, EVERY = 60, 5, 3
"""A run of twelve epochs, validated every three steps: its error falls, and then rises."""


def _errors() -> Iterator[tuple[int, float]]:
    """The steps at which a run is validated, and its error there."""
    for step in range(EVERY, STEPS + 1, EVERY):
        yield step, 0.1 + abs(step - STEPS / 4) / STEPS


def _score(metrics: Mapping[str, float], name: str | None) -> float:
    return -next(iter(metrics.values()))


def _view(step: int, folder: Path, is_main_process: bool = True, error: float | None = None) -> RunView:
    losses, metrics = {"generator/l1": 1 / (1 + step)}, {} if error is None else {"validation/mae": error}
    epoch = step / STEPS_PER_EPOCH
    return RunView(step / STEPS, step, epoch, losses, metrics, folder, is_main_process, _score, Callbacks({}, {}))


def _factors(schedule: Any) -> list[Any]:
    return [schedule(Position(step / STEPS, step, step / STEPS_PER_EPOCH)) for step in range(STEPS + 1)]


def _through_a_checkpoint(one: Any, other: Any) -> None:
    """Give ``other`` the state of ``one``, as resuming does."""
    state = take_states({"it": one})["it"]
    put_back(other, state.value, state.tensors, torch.device("cpu"))


@contract("it gives a number of at least 0 at each place in a run, the same whenever it is asked there")
def gives_factors(subject: Subject) -> None:
    """All the places in a run, twice."""
    schedule = subject.make()
    factors = _factors(schedule)
    for step, factor in enumerate(factors):
        fits = isinstance(factor, int | float) and 0 <= factor < inf
        require(fits, f"{factor!r} before step {step} of {STEPS}")
    require(_factors(schedule) == factors, "other factors when asked again")
    require(_factors(subject.make()) == factors, "other factors from another one")


@contract("what it has learnt from validations is in its state_dict, and comes back from a checkpoint")
def resumes_from_its_state(subject: Subject) -> None:
    """A schedule that follows validations, and one resumed in the middle of them."""
    schedule, fresh = subject.make(), subject.make()
    if not hasattr(schedule, "on_validation_end"):
        return
    with TemporaryDirectory() as folder:
        for step, error in _errors():
            schedule.on_validation_end(_view(step, Path(folder), error=error))
            if not isinstance(schedule, Stateful):
                changed = _factors(schedule) != _factors(fresh)
                require(not changed, "other factors after a validation, and no state_dict and load_state_dict")
                continue
            anew = subject.make()
            _through_a_checkpoint(schedule, anew)
            for later, worse in _errors():
                if later > step:
                    anew.on_validation_end(_view(later, Path(folder), error=worse))
            straight = subject.make()
            for any_step, any_error in _errors():
                straight.on_validation_end(_view(any_step, Path(folder), error=any_error))
            same = _factors(anew) == _factors(straight)
            require(same, f"other factors when resumed after the validation at step {step}")


@contract(f"it is an object with one or more of {', '.join(EVENTS)}, and no other method of such a name")
def has_events(subject: Subject) -> None:
    """What the trial before a run looks at."""
    refuse_unusable(subject.make(), repr(subject.registered.name))


@contract("it takes all events of a run, and writes on the main process alone, into the run folder")
def takes_a_run(subject: Subject) -> None:
    """A run on the main process, and the same on another."""
    for is_main_process in (True, False):
        with TemporaryDirectory() as folder:
            _call_all(subject.make(), Path(folder), is_main_process)
            written = [file.name for file in Path(folder).iterdir()]
            require(is_main_process or not written, f"it writes {', '.join(written)} on a process beside the main one")


@contract("its state, if it has one, comes back from a checkpoint")
def keeps_its_state(subject: Subject) -> None:
    """The state after a run, in a callback made anew."""
    callback, anew = subject.make(), subject.make()
    if isinstance(callback, Stateful):
        with TemporaryDirectory() as folder:
            _call_all(callback, Path(folder), True)
        _through_a_checkpoint(callback, anew)
        states = [take_states({"it": each})["it"] for each in (callback, anew)]
        require(states[0] == states[1], f"{states[1].value} after resuming, {states[0].value} before")


def _call_all(callback: Any, folder: Path, is_main_process: bool) -> None:
    def call(event: str, view: RunView) -> None:
        if hasattr(callback, event):
            getattr(callback, event)(view)

    errors = dict(_errors())
    call("on_train_start", _view(0, folder, is_main_process))
    for step in range(1, STEPS + 1):
        view = _view(step, folder, is_main_process)
        call("on_step_end", view)
        if step in errors:
            view = replace(view, metrics={"validation/mae": errors[step]})
            call("on_validation_end", view)
            call("on_checkpoint", view)
    call("on_train_end", view)


SCHEDULE_CHECKS = (gives_factors, resumes_from_its_state)
CALLBACK_CHECKS = (has_events, takes_a_run, keeps_its_state)
