"""The loop: batches in, steps by the method, metrics, samples and checkpoints out, until a limit ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

from accelerate import Accelerator

from p2pkit.contracts import Batch, MethodWithStart
from p2pkit.data.loader import ONE_SIZE, EpochSampler, Examples, Loaded, batches, steps_per_epoch
from p2pkit.distributed.collectives import (
    SharedDataError,
    all_gather_text,
    all_reduce_max,
    on_every_process,
    on_main_process,
)
from p2pkit.errors import CallbackError, DataError, NotFiniteError, WriteError
from p2pkit.evaluation.baselines import measure_beside_trivial
from p2pkit.evaluation.driver import Driver, StopRequested
from p2pkit.networks.fitting import refuse_unfitting
from p2pkit.run_dir import RunDir
from p2pkit.settings import Limits, steps_in
from p2pkit.training import finite
from p2pkit.training.callbacks import Callbacks, RunView
from p2pkit.training.checkpoint import read_checkpoint, refuse_different, set_aside_after
from p2pkit.training.ending import Ending, FailedStep
from p2pkit.training.metrics_log import drop_lines, short_losses
from p2pkit.training.outputs import Outputs, Split
from p2pkit.training.parts import TrainingParts
from p2pkit.training.prepare import EMA, prepare_networks
from p2pkit.training.recorded_steps import recorded_steps
from p2pkit.training.run_report import RunReport
from p2pkit.training.state import Best, RunState
from p2pkit.training.steps import Steps
from p2pkit.training.trackers import tracked
from p2pkit.training.update import Updater
from p2pkit.utils.progress import Progress
from p2pkit.utils.seeds import seed_step
from p2pkit.utils.signals import Interrupted, Interruption

T = TypeVar("T")

MEASURING_SHARE = 0.25
"""The most of ``train.max_time`` that is kept for the metrics of the run's end."""


class Trainer:
    """Trains a method. Networks and optimizers are ready when it is made; :meth:`train` runs until a limit."""

    def __init__(
        self, parts: TrainingParts, accelerator: Accelerator, folder: RunDir,
        resume_command: Callable[[bool], str] = str, began: float | None = None,
    ) -> None:  # fmt: skip
        """``resume_command`` gives what a person types to resume this run, with True although its data has changed.

        ``began`` is when the time that ``train.max_time`` limits began, by time.monotonic(); now by default.
        """
        self.parts, self.accelerator, self.folder = parts, accelerator, folder
        self._began = time.monotonic() if began is None else began
        crops = parts.augmentation.settings.crops_per_image
        self.steps_per_epoch = steps_per_epoch(len(parts.train_set), parts.loader, accelerator.num_processes, crops)
        self.limits = Limits.of(parts.train, self.steps_per_epoch)
        self._max_seconds = self.limits.seconds
        """What the whole of the run may take, the measurements at its end too."""
        self.facts: dict[str, Any] = {}  # what the metrics at the end are of
        self.state = RunState()
        self.interruption = Interruption()
        self.trained = prepare_networks(parts, accelerator)
        optimizers, accumulate = self.trained.optimizers, parts.train.accumulate
        self.update = Updater(
            accelerator, optimizers, parts.clip_gradient_norm, parts.schedule, parts.warmup, parts.method, accumulate
        )
        for name, optimizer in optimizers.items():
            self.update.rates[name] = list(map(itemgetter("lr"), optimizer.param_groups))
        listens = hasattr(parts.schedule, "on_validation_end")
        called = {"schedule": parts.schedule, **parts.callbacks} if listens else parts.callbacks
        self.callbacks = Callbacks(called, parts.origins)
        self.steps = Steps(parts, self.trained, self.update)
        ema: Any = self.trained.networks.get(EMA)
        generator = ema.module if ema else self.trained.networks["generator"]
        self.outputs = Outputs(parts, accelerator, folder, self.trained, generator)
        self.report = RunReport(self.outputs)
        self.ending = Ending(self.outputs, self.interruption, resume_command)
        self._last_means, self._first_means = dict[str, float](), dict[str, float]()

    def resume(self) -> list[str]:
        """Go back to the last whole checkpoint in the run folder; notices of what is damaged or not exactly as it was.

        Raises:
            RunDirError: there is none, or the processes do not see the same one.
        """
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        read = partial(read_checkpoint, self.folder.checkpoints, self.trained, rank, processes)
        progress, notices = on_every_process(self.accelerator, read)
        refuse_different(self.accelerator, self.folder.checkpoints, progress)
        self.state = state = RunState.from_json(progress)
        self._began -= state.seconds  # the time of earlier commands counts too
        self._keep_time_to_measure()
        self.outputs.mark_saved(state)
        # where their line was torn, they are taken again
        if on_main_process(self.accelerator, self._mend_folder) and state.metrics:
            state.metrics, state.finished = {}, False
        return notices

    def _mend_folder(self) -> str:
        """Remove what is no part of the run at this step; says whether the line of its metrics is missing."""
        set_aside_after(self.folder.checkpoints, self.state.step)
        self.folder.remove_unfinished()
        whole = drop_lines(self.folder.metrics, self.state.step, self.state.rewritten())
        return "" if whole else "no line"

    def train(self) -> dict[str, float]:
        """Train until a limit ends the run, then measure; the metrics on the validation set.

        Raises:
            Interrupted: a signal came; a checkpoint has been written.
            P2PKitError: data that cannot be read, a disk that cannot be written, a loss that is NaN or infinite, a
                callback that fails.
        """
        run, place = self.parts.run, self.folder.path
        trackers = tracked(self.accelerator, run, place, self.state.step) if run.trackers else nullcontext()
        with trackers, self.interruption.remembered():
            try:
                self._train()
                return self._finish()
            except DataError as error:
                if self.accelerator.num_processes > 1 and not isinstance(error, SharedDataError):
                    raise  # the others do not know of it, and no checkpoint is written without them
                self._refuse_not_finite()
                raise self.ending.with_checkpoint(error, self.state) from error
            except WriteError as error:
                raise WriteError(f"{error}\n{self.ending.last_checkpoint()}") from error

    def _train(self) -> None:
        state = self.state
        so_far, shown = self.limits.position(state.step, state.seconds).progress, self.accelerator.is_main_process
        with Progress("training", self.limits.steps, "step", state.step, so_far, shown) as progress:
            if self.callbacks.each:
                self._call_callbacks("on_train_start")
            if state.step:
                self._write_what_is_due()  # a run that was stopped in the middle of it resumes there
            elif isinstance(self.parts.method, MethodWithStart):
                self.parts.method.on_train_start()
            self._defer_checks()
            # a bad pair behind the last step is none of this run's business
            for found in () if self._is_over() else self._batches():
                signal, state.seconds = self._agree(found, time.monotonic() - self._began)
                if signal:
                    self._stop(signal)
                if self._is_over():
                    break
                assert isinstance(found, Loaded)
                self._train_step(found.batch)
                if state.expected is None or len(self.update.checks or ()) >= finite.MOST_PENDING:
                    self._refuse_not_finite()
                if state.expected is None:
                    self._keep_time_to_measure(self._driver())
                    progress.later = sum(state.expected or ())
                self._call_callbacks("on_step_end")
                self._write_what_is_due()
                progress.advance(1, self._notes(), self.limits.position(state.step, state.seconds).progress)
                if self._is_over():
                    break

    def _defer_checks(self) -> None:
        """Have a device that works behind the program look at updates itself, and replay steps."""
        if self.accelerator.device.type in finite.DEFERRED_ON:
            self.update.checks = finite.deferred_checks(self.accelerator, self.trained)
            self.steps = recorded_steps(self.steps)

    def _agree(self, found: Loaded | DataError | None, seconds: float) -> tuple[int, float]:
        """The signal that any process has got, and the time of the slowest; ends the run where any has bad data."""
        bad, skipped, height, width = isinstance(found, DataError), [], 0, 0
        if isinstance(found, Loaded):
            skipped, (height, width) = found.skipped, found.batch.source.shape[2:]
        own = [self.interruption.signal, seconds, self.callbacks.asked, bad, bool(skipped)]
        signal, seconds, asked_anywhere, bad_anywhere, skipped_anywhere, *sides = all_reduce_max(
            self.accelerator, [*own, height, -height, width, -width]
        )
        if asked_anywhere:
            self._heed_callbacks()
            if self.state.stopped:
                return int(signal), seconds
        if skipped_anywhere:
            self.outputs.report_skipped(self.state.step, skipped)
        if bad_anywhere:
            self._stop_at_bad_data(str(found) if isinstance(found, DataError) else "")
        if not signal and (sides[0], sides[2]) != (-sides[1], -sides[3]):
            assert isinstance(found, Loaded)
            mine = f"{', '.join(found.batch.keys)} {height}x{width}"
            self._stop_at_bad_data(f"{mine}: the processes' images of a batch differ in size; {ONE_SIZE}")
        return int(signal), seconds

    def _is_over(self, ahead: float = 0.0) -> bool:
        """Whether a limit is reached, or would be in so many seconds; not by the time before a first step."""
        position = self.limits.position(self.state.step, self.state.seconds + ahead)
        return bool(self.state.stopped) or (position.progress >= 1.0 and self.state.step > 0)

    def _keep_time_to_measure(self, driver: Driver | None = None) -> None:
        """Let steps end early enough for the metrics of the run's end; ``driver`` finds out how long these take."""
        state = self.state
        if driver is not None:
            own = self._unless_asked(lambda: driver.seconds(self.outputs.translate))
            state.expected = all_reduce_max(self.accelerator, own)
        if self._max_seconds is not None and state.expected is not None:
            kept = min(sum(state.expected), MEASURING_SHARE * self._max_seconds)
            self.limits = replace(self.limits, seconds=self._max_seconds - kept)

    def _batches(self) -> Iterator[Loaded | DataError | None]:
        """This process's share of each batch; last what is wrong, which is not raised; None after a signal."""
        loaded = batches(*self._reading(self.state.step), self.parts.loader, lambda: bool(self.interruption.signal))
        try:
            for each in loaded:
                sides, keys = each.batch.source.shape[2:], ", ".join(each.batch.keys)
                refuse_unfitting(self.trained.networks["generator"], sides, keys)
                yield each
            yield None
        except DataError as error:
            yield error

    def _reading(self, step: int) -> tuple[Examples, EpochSampler]:
        """The samples as they are read in training, and which of them make up this process's batches from a step on."""
        parts, rank, processes = self.parts, self.accelerator.process_index, self.accelerator.num_processes
        examples = Examples(parts.train_set, parts.spec, parts.augmentation, parts.loader, self.accelerator.device)
        shards: Sequence[int] | None = getattr(parts.train_set, "shards", None)
        return examples, EpochSampler(
            len(parts.train_set), parts.loader.batch_size, parts.run.seed, step, rank, processes, shards,
            parts.augmentation.settings.crops_per_image, len(parts.train_set.targets or ()),
        )  # fmt: skip

    def _read_again(self, step: int) -> Batch:
        """This process's share of the batch of a step that has been made, in this process."""
        return next(batches(*self._reading(step), self.parts.loader.model_copy(update={"workers": 0}))).batch

    def _train_step(self, batch: Batch) -> None:
        state = self.state
        self.update.seed = seed_step(self.parts.run.seed, state.step, self.accelerator.process_index)
        self.update.set_position(self.limits.position(state.step, state.seconds))
        try:
            terms = self.steps.make(batch)
        except NotFiniteError as error:
            failed = FailedStep(state.step, batch.keys, self.update.progress, state.identity)
            raise self.ending.before_it_spreads(error, failed, lambda: batch) from error
        state.step += 1
        state.window.add(terms)
        state.metrics, state.finished = {}, False

    def _refuse_not_finite(self) -> None:
        """End the run where a step since the last look was not finite; waits for the device, unless all are known."""
        checks = self.update.checks
        if checks is None or (update := checks.first_not_finite()) is None:
            return
        failed = FailedStep(update.step, update.keys, update.progress, self.state.identity)
        try:
            update.refuse(self.accelerator)
        except NotFiniteError as error:
            again = partial(self._read_again, update.step)
            raise self.ending.before_it_spreads(error, failed, again) from error

    def _write_what_is_due(self) -> None:
        settings, every, step = self.parts.train, self.parts.validation.settings.every, self.state.step
        logged, sampled = step % settings.log_every == 0, step % settings.sample_every == 0
        measured = every is not None and step % steps_in(every, self.steps_per_epoch) == 0
        saved = step % steps_in(settings.checkpoint_every, self.steps_per_epoch) == 0
        if logged or sampled or measured or saved:
            self._refuse_not_finite()
        if logged and self.state.window:
            self._log()
        if sampled:
            self.outputs.sample(step)
        ahead = self.state.expected[0] if self.state.expected else 0.0
        improved = measured and not self._is_over(ahead) and self._measure()  # the end measures by itself
        if improved or saved:
            self._save()
        if logged or sampled or measured or saved:
            self.report.update(self.state, self.limits)

    def _call_callbacks(self, event: str) -> None:
        """Call the callbacks at an event, on every process."""
        if self.callbacks.each:
            state, main = self.state, self.accelerator.is_main_process
            position, score = self.limits.position(state.step, state.seconds), self.parts.validation.score
            seen = (*position, self._last_means, state.metrics, self.folder.path, main)
            self.callbacks.call(event, RunView(*seen, score, self.callbacks))

    def _heed_callbacks(self) -> None:
        """End the run before the next step as callbacks want it, or because one has failed; all processes are here."""
        reason, failure = self.callbacks.shared(self.accelerator)
        self.state.stopped = self.state.stopped or reason
        if failure:
            self._refuse_not_finite()
            raise self.ending.with_checkpoint(CallbackError(failure), self.state)

    def _save(self) -> None:
        """Write a checkpoint, unless it is there; it also holds why callbacks want the run to end by now."""
        if self.callbacks.each:
            self.state.stopped = self.state.stopped or self.callbacks.shared(self.accelerator)[0]
        if self.outputs.save(self.state, {}):
            self._call_callbacks("on_checkpoint")

    def _log(self) -> None:
        self._last_means = self.outputs.log(self.state, self._epoch(), dict(self.update.learning_rates()))

    def _epoch(self) -> float:
        return self.state.step / self.steps_per_epoch

    def _notes(self) -> list[str]:
        """What progress shows beside the count: the losses as last logged, until then as they are, and the epoch."""
        if not self._last_means and (not self._first_means or self.accelerator.device.type == "cpu"):
            self._first_means = self.state.window.means()  # once on other devices, which a step must not wait for
        epoch = (self.state.step - 1) // self.steps_per_epoch + 1
        return [*short_losses(self._last_means or self._first_means), f"epoch {epoch}"]

    def _measure(self, at_end: bool = False) -> bool:
        """Take what there is not yet of this step's validation metrics; whether they are the best so far."""
        state, every = self.state, self.parts.validation.settings.every
        split: Split = "baseline" if state.metrics else "validation"
        new, metrics = not state.metrics, self._metrics(at_end)
        self.outputs.record(state, self._epoch(), split, metrics)
        self.outputs.write_validation(state.step, self.facts)
        state.metrics = {**state.metrics, **metrics}
        state.finished = at_end
        if not state.metrics or not new:
            return False
        self._call_callbacks("on_validation_end")
        if every is None or not self.facts.get("complete"):
            return False  # numbers of a part of the set do not compare
        score = self.parts.validation.score(state.metrics)
        improved = state.best is None or score > state.best.score
        if improved:
            state.best = Best(state.step, score)
        return improved

    def _metrics(self, with_baselines: bool) -> dict[str, float]:
        """What there is not yet of the metrics of this step, by "ROW/NAME"; the processes share the images out."""
        driver, rows = self._driver(), {} if self.state.metrics else {"validation": self.outputs.translate}
        measured = self._unless_asked(lambda: measure_beside_trivial(driver, rows, with_baselines))
        self.facts = measured.facts(driver) if measured else {}
        if measured and rows:
            self.outputs.show_best_and_worst(self.state.step, measured.images)
        return measured.flat() if measured else {}

    def _unless_asked(self, measure: Callable[[], T]) -> T:
        """What ``measure`` gives; where a process is asked to stop meanwhile, all do."""
        try:
            return measure()
        except StopRequested:
            self._stop_if_asked()
            raise

    def _driver(self) -> Driver:
        report = partial(self.outputs.skipped.report, self.state.step)
        deadline = math.inf if self._max_seconds is None else self._began + self._max_seconds
        return Driver(self.parts.validation, self.accelerator, report, lambda: bool(self.interruption.signal), deadline)

    def _stop_if_asked(self) -> None:
        (signal,) = all_reduce_max(self.accelerator, [self.interruption.signal])
        if signal:
            self._stop(int(signal))

    def _stop(self, signal: int) -> NoReturn:
        self._refuse_not_finite()
        step = self.state.step
        try:
            self._save()
        except WriteError as error:
            raise WriteError(f"interrupted at step {step}, of which no checkpoint can be written: {error}") from error
        with suppress(Exception):  # trackers that fail must not hide why the run ends
            self.accelerator.end_training()
        raise Interrupted(signal, f"interrupted at step {step}; {self.ending.how_to_resume(step)}")

    def _stop_at_bad_data(self, message: str) -> NoReturn:
        """End the run on all processes, each of which reports what any of them has met."""
        messages = all_gather_text(self.accelerator, message)
        raise SharedDataError("\n".join(text for text in messages if text))

    def _finish(self) -> dict[str, float]:
        state, accelerator = self.state, self.accelerator
        self._refuse_not_finite()
        if state.window:
            self._log()
        self._save()
        self.outputs.sample(state.step)
        if not state.finished:
            self._measure(at_end=True)
        self.outputs.save(state, state.metrics)
        if self.callbacks.each:
            self._call_callbacks("on_train_end")
            if failure := self.callbacks.shared(accelerator)[1]:
                raise CallbackError(f"{failure}; the run has ended, and its model is {self.folder.model}")
        accelerator.end_training()
        return state.metrics
