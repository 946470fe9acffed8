"""Training steps as `p2pkit run` makes them, one at a time, and what the seconds of each are spent on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from accelerate import Accelerator
from torch import nn

from p2pkit.benchmarks.machine import waiting_for
from p2pkit.contracts import Batch, MethodWithStart, Terms, TermsOfPart
from p2pkit.data.loader import Loaded
from p2pkit.errors import NotFiniteError, RecipeError
from p2pkit.recipe.recipe import Recipe
from p2pkit.run_dir import RunDir
from p2pkit.runs import open_session, prepare_run
from p2pkit.settings import Limits
from p2pkit.training.ending import E, Ending, FailedStep
from p2pkit.training.parts import TrainingParts
from p2pkit.training.state import RunState
from p2pkit.training.steps import Steps
from p2pkit.training.trainer import Trainer
from p2pkit.training.trial import try_training
from p2pkit.training.update import Updater

WAITING, FORWARD, OPTIMIZERS, CALLBACKS, LOGGING, REST = (
    "waiting for data", "generator forward", "optimizers", "callbacks", "logging", "rest of the step",
)  # fmt: skip
"""What all methods spend time on; updates go by the names of their networks."""
FAR = 10**9
"""Steps of the run that these are the first of, so that schedules and methods are as at its beginning."""


@dataclass
class Stopwatch:
    """Seconds by what they are spent on: what begins within something else pauses that, so they add up."""

    wait: Callable[[], None] | None = None
    """Waits for the device before the time is read, where that is wanted."""
    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[str] = field(default_factory=lambda: [REST])
    _since: float = field(default_factory=time.perf_counter)

    @property
    def current(self) -> str:
        """What time is spent on now."""
        return self._open[-1]

    def begin(self, name: str) -> None:
        """Spend time on ``name`` from now on, until :meth:`end`."""
        self._count()
        self._open.append(name)

    def end(self) -> None:
        """Go back to what time was spent on before."""
        self._count()
        self._open.pop()

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Spend the time of the body on ``name``."""
        self.begin(name)
        yield
        self.end()

    def take(self) -> dict[str, float]:
        """The seconds since this was last asked."""
        self._count()
        taken, self.seconds = self.seconds, {}
        return taken

    def _count(self) -> None:
        if self.wait is not None:
            self.wait()
        now = time.perf_counter()
        self.seconds[self.current] = self.seconds.get(self.current, 0.0) + now - self._since
        self._since = now


@dataclass
class _TimedUpdater(Updater):
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __call__(
        self, networks: str | Sequence[str], terms: Terms | TermsOfPart, fixed: Iterable[nn.Parameter] = ()
    ) -> None:
        names = networks if isinstance(networks, str) else " and ".join(networks)
        with self.stopwatch.on(f"{names} update"):
            super().__call__(networks, terms, fixed)


class _NothingKept(Ending):
    """Of a run whose folder is gone with the command."""

    def with_checkpoint(self, error: E, state: RunState) -> E:
        return error

    def before_it_spreads(
        self, error: NotFiniteError, failed: FailedStep, batch: Callable[[], Batch]
    ) -> NotFiniteError:
        return NotFiniteError(f"step {failed.before + 1}: {error}. Lower optimizer.lr, or look at the files")


class TimedTrainer(Trainer):
    """A trainer whose steps are asked for one by one; :attr:`stopwatch` has what they spend their time on.

    Each is what it is in a run, with its callbacks and its lines of metrics; validation, sample grids, checkpoints and
    trackers are left out.
    """

    def __init__(self, parts: TrainingParts, accelerator: Accelerator, folder: RunDir) -> None:
        super().__init__(parts, accelerator, folder)
        self.stopwatch = Stopwatch()
        self.ending = _NothingKept(self.outputs, self.interruption, self.ending.resume_command)
        self.limits = Limits(FAR, None, self.steps_per_epoch)
        given = {each.name: getattr(self.update, each.name) for each in fields(Updater) if each.init}
        self.update = self.steps.update = _TimedUpdater(**given, stopwatch=self.stopwatch)
        for optimizer in self.trained.optimizers.values():
            inner: Any = getattr(optimizer, "optimizer", optimizer)  # behind Accelerate's, which a scaler passes by
            inner.step = self._timed(inner.step)
        for name, network in {name: getattr(parts.method, name) for name in parts.method.networks}.items():
            network.register_forward_pre_hook(lambda *_, name=name: self.stopwatch.begin(self._forward_of(name)))
            network.register_forward_hook(lambda *_: self.stopwatch.end())
        self._defer_checks()
        self._loaded = cast(Generator[Any, None, None], self._batches())
        if isinstance(parts.method, MethodWithStart):
            parts.method.on_train_start()
        self._call_callbacks("on_train_start")

    def load(self) -> Loaded:
        """The next batch of the run.

        Raises:
            DataError: it cannot be read.
        """
        with self.stopwatch.on(WAITING):
            found = next(self._loaded)
        _, self.state.seconds = self._agree(found, time.monotonic() - self._began)
        assert isinstance(found, Loaded), "what is wrong with it has been raised"
        return found

    def step(self, loaded: Loaded) -> None:
        """Train on a batch.

        Raises:
            RecipeError: a callback fails, or a part of the recipe cannot be used.
            NotFiniteError: a loss is NaN or infinite.
        """
        self._train_step(loaded.batch)
        if self.callbacks.each:
            with self.stopwatch.on(CALLBACKS):
                self._call_callbacks("on_step_end")
        if self.state.step % self.parts.train.log_every == 0:
            with self.stopwatch.on(LOGGING):
                self._refuse_not_finite()
                self._log()

    def tell_parts_apart(self) -> None:
        """Make the steps from now on one operation after another, and wait for the device at each part."""
        self.steps = Steps(self.parts, self.trained, self.update)
        self.stopwatch.wait = waiting_for(self.accelerator.device)

    def close(self) -> None:
        """End the processes that read ahead."""
        self._loaded.close()

    def _forward_of(self, name: str) -> str:
        """What a call of a network counts as: the generator's as such, others as what they are called in."""
        if name == "generator":
            return FORWARD
        return f"{name} forward" if self.stopwatch.current == REST else self.stopwatch.current

    def _timed(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.stopwatch.on(OPTIMIZERS):
                return step(*arguments, **keywords)

        return timed


@contextmanager
def timed_trainer(recipe: Recipe, device: str | None = None) -> Iterator[TimedTrainer]:
    """The trainer of a recipe, which is tried and built as for a run, in a folder that is gone behind the body.

    Raises:
        RecipeError: the recipe, or one of its components, cannot be used; or this is one of several processes.
        DataError: the data cannot be used.
    """
    with open_session(recipe.train, device) as session, TemporaryDirectory(prefix="p2pkit-bench-") as folder:
        accelerator = session.accelerator
        if accelerator.num_processes > 1:
            raise RecipeError(
                f"bench measures one process, and this is one of {accelerator.num_processes}; leave the launcher out, "
                "and set loader.batch_size to the share of one process"
            )
        _, _, parts = prepare_run(session, recipe)
        autocast = accelerator.autocast if recipe.train.precision != "no" else None
        try_training(parts, accelerator.device, 1, autocast)
        with closing(TimedTrainer(parts, accelerator, RunDir(Path(folder)))) as trainer:
            yield trainer
