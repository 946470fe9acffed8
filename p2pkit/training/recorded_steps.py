"""Steps on a GPU recorded once and replayed (CUDA graphs): the program gives one order a step in place of thousands.

The first steps are made one operation after another, and the last of these is watched: what a step has from the
program (a draw, the run's progress), or waits for, would be that of the recorded step for ever. Steps of such methods
and losses, and of batches of another size, go on one operation after another, and a notice says why.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor

from p2pkit.contracts import Batch, Stateful, Update
from p2pkit.data.loader import on_device
from p2pkit.errors import in_one_line
from p2pkit.training.cuda_recorder import CudaRecorder
from p2pkit.training.steps import Steps
from p2pkit.training.update import PendingUpdate
from p2pkit.utils.progress import print_line

WARM_UP = 3
"""Steps before the one that is recorded: in the first ones memory is taken, and kernels are chosen."""


class Recorder(Protocol):
    """What has work of a device done, and records it."""

    def aside(self) -> AbstractContextManager[None]:
        """Has the body's work done where it is recorded later."""
        ...

    def watched(self) -> AbstractContextManager[list[str]]:
        """Lists, behind the body, why its work cannot be recorded."""
        ...

    def record(self, work: Callable[[], _Left]) -> None:
        """Record the work that is given to the device by ``work``."""
        ...

    def replay(self) -> _Left:
        """Have what was recorded done again; what ``work`` has given, whose tensors have new values."""
        ...


RECORDERS: Mapping[str, Callable[[torch.device], Recorder]] = {"cuda": CudaRecorder}
"""By type of device."""


class _Left(NamedTuple):
    """What a step leaves for the program to look at later."""

    updates: list[PendingUpdate]
    terms: dict[str, Tensor]
    values: Tensor
    """All numbers in these two, in their order, so that one copy keeps them from the next step."""


def recorded_steps(steps: Steps) -> Steps:
    """``steps`` recorded and replayed, or one operation after another where that cannot be, which is printed.

    The networks and optimizers are as they stay, and the updates are looked at on the device.
    """
    parts, update = steps.parts, steps.update
    device = update.accelerator.device
    if not parts.train.cuda_graphs or device.type not in RECORDERS:
        return steps
    if update.checks is None:
        if update.accelerator.is_main_process:
            _report("the program looks at gradients before each update, as in fp16 and with some optimizers")
        return steps
    made = RecordedSteps(parts, steps.trained, update, RECORDERS[device.type](device))
    if update.accelerator.num_processes > 1:
        made.refuse("several processes exchange gradients in a step")
    elif parts.train.accumulate > 1 or parts.train.activation_checkpointing:
        made.refuse("train.accumulate and train.activation_checkpointing seed what is drawn within a step")
    elif isinstance(parts.method, Stateful):
        made.refuse(f"{parts.origins['method']} has a state of its own")
    return made


@dataclass
class RecordedSteps(Steps):
    """Makes steps by replaying one, once it is recorded."""

    recorder: Recorder
    refused: bool = False
    """All are made one operation after another."""
    _shapes: list[torch.Size] = field(default_factory=list)
    """Those of the batches of the recorded step, or of the last ones."""
    _made: int = 0
    """Steps with such batches before one was recorded."""
    _batch: Batch | None = None
    """What the recorded step reads."""
    _reported: bool = False

    def __post_init__(self) -> None:
        device = self.update.accelerator.device
        # CUDA's fused optimizers take rates of this type alone
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        self._rates = [torch.zeros((), dtype=dtype, device=device) for _ in self._groups()]

    @property
    def recorded(self) -> bool:
        """Whether there is a recorded step."""
        return self._batch is not None

    def make(self, batch: Batch) -> dict[str, Tensor]:
        """Make a step as :meth:`Steps.make`, by the recorded one where there is one for such batches."""
        for group, rate in zip(self._groups(), self._rates, strict=True):
            rate.fill_(group["lr"])
        if self.refused:
            return self._by_operations(batch)
        shapes = [image.shape for image in _images(batch)]
        if self._shapes and shapes != self._shapes:
            self._report_once("batches differ in size; only those like the recorded step's are made from it")
        if not self.recorded and shapes != self._shapes:
            self._shapes, self._made = shapes, 0
        if not self.recorded and self._made < WARM_UP:
            return self._warm_up(batch)
        if shapes == self._shapes and (self.recorded or self._record(batch)):
            return self._replayed(batch)
        return self._by_operations(batch)

    def refuse(self, why: str) -> None:
        """Make the steps from now on one operation after another, and print why, where they are not already."""
        if not self.refused:
            self._report_once(why)
        self.refused = True

    def _by_operations(self, batch: Batch) -> dict[str, Tensor]:
        with self._rates_on_device():
            return super().make(batch)

    def _warm_up(self, batch: Batch) -> dict[str, Tensor]:
        self._made += 1
        with self.recorder.aside():
            if self._made < WARM_UP:
                return self._by_operations(batch)
            watched, places, states = _Watched(self.update), self._places(), _states_of_the_program()
            with self.recorder.watched() as why, self._rates_on_device():
                terms = self._step(on_device(batch, self.update.accelerator.device), watched)
            if watched.read:
                why.append(f"{self.parts.origins['method']} goes by update.{watched.read[0]}")
            if places != self._places():
                why.append("a network or an optimizer puts new tensors in the place of its own")
            if states != _states_of_the_program():
                why.append("numbers are drawn by Python or NumPy in a step")
        if why:
            self.refuse(why[0])
        return terms

    def _record(self, batch: Batch) -> bool:
        """Record a step; whether that can be done."""
        on_it = on_device(batch, self.update.accelerator.device)
        mask = None if on_it.mask is None else on_it.mask.clone()
        self._batch = Batch(on_it.source.clone(), on_it.target.clone(), batch.keys, mask)
        try:
            with self._rates_on_device(recorded=True):
                self.recorder.record(self._leave)
        except RuntimeError as error:
            self._batch = None
            self.refuse(f"a step cannot be recorded ({in_one_line(error)})")
            set_seed(self.update.seed % 2**32)  # the step is made again
        return self._batch is not None

    def _leave(self) -> _Left:
        """Make a step, and take what it leaves out of the program's hands."""
        assert self._batch is not None and self.update.checks is not None
        pending, terms = self.update.checks.pending, dict[str, Tensor]()
        before = len(pending)
        try:
            terms = self._step(self._batch, self.update)
            updates = pending[before:]
        finally:
            del pending[before:]
            self.update.take_terms()
        numbers = [number for update in updates for number in _numbers(update)] + list(terms.values())
        return _Left(updates, terms, torch.stack([number.float() for number in numbers]))

    def _replayed(self, batch: Batch) -> dict[str, Tensor]:
        assert self._batch is not None and self.update.checks is not None
        for own, given in zip(_images(self._batch), _images(batch), strict=True):
            own.copy_(given, non_blocking=True)
        left = self.recorder.replay()
        values = iter(left.values.clone().unbind())
        for update in left.updates:
            # names come first in each zip, which so takes no value too many
            terms = dict(zip(update.terms, values, strict=False))
            total, norms = next(values), dict(zip(update.norms, values, strict=False))
            self.update.checks.pending.append(
                replace(
                    update, step=self.update.step, progress=self.update.progress, keys=batch.keys, terms=terms,
                    total=total, norms=norms,
                )
            )  # fmt: skip
        return dict(zip(left.terms, values, strict=True))

    @contextmanager
    def _rates_on_device(self, recorded: bool = False) -> Iterator[None]:
        """Have the optimizers read their rates on the device in the body, so that all steps round these alike."""
        groups = list(self._groups())
        held = [dict(group) for group in groups]
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
                if "capturable" in group:
                    group["capturable"] = recorded
            yield
        finally:
            for group, before in zip(groups, held, strict=True):
                group.update({key: before[key] for key in ("lr", "capturable") if key in before})

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self.trained.optimizers.values():
            yield from optimizer.param_groups

    def _places(self) -> list[int]:
        """Where in memory the tensors lie that steps change."""
        tensors = list[Any]()
        for network in self.trained.networks.values():
            tensors += [*network.parameters(), *network.buffers()]
        for optimizer in self.trained.optimizers.values():
            tensors += [value for values in optimizer.state.values() for value in values.values()]
        return [tensor.data_ptr() for tensor in tensors if isinstance(tensor, Tensor)]

    def _report_once(self, why: str) -> None:
        if not self._reported and self.update.accelerator.is_main_process:
            _report(why)
        self._reported = True


class _Watched:
    """An update that knows what a method has read of it beside ``accumulate``."""

    def __init__(self, update: Update) -> None:
        self._update = update
        self.read: list[str] = []

    def __call__(self, *arguments: Any, **keywords: Any) -> None:
        self._update(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name != "accumulate":
            self.read.append(name)
        return getattr(self._update, name)


def _report(why: str) -> None:
    print_line(f"NOTICE: steps are made one operation after another, not from a CUDA graph: {why}")


def _images(batch: Batch) -> list[Tensor]:
    return [batch.source, batch.target] + ([] if batch.mask is None else [batch.mask])


def _numbers(update: PendingUpdate) -> list[Tensor]:
    return [*update.terms.values(), update.total, *update.norms.values()]


def _states_of_the_program() -> tuple[Any, ...]:
    """What changes where Python or NumPy draw."""
    _, keys, *rest = np.random.get_state()
    return random.getstate(), np.asarray(keys).tobytes(), rest
