"""The loop: batches in, steps by the method, metrics, samples and checkpoints out, until a limit ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import Tensor, nn

from p2pkit.contracts import Batch, Method, PairedDataset, ShardedDataset
from p2pkit.engine.accelerators import largest, prepared, start_trackers
from p2pkit.engine.checkpoint import Trained, read_checkpoint, write_checkpoint
from p2pkit.engine.interruption import Interrupted, Interruption
from p2pkit.engine.loader import Examples, batches, steps_per_epoch
from p2pkit.engine.metrics_log import MetricsWindow, append_line, drop_lines_after
from p2pkit.engine.optimizers import make_optimizer
from p2pkit.engine.order import Order
from p2pkit.engine.run_folder import RunFolder
from p2pkit.engine.samples import write_samples
from p2pkit.engine.schedule import Limits
from p2pkit.engine.update import Updater
from p2pkit.errors import DataError, NotFiniteError
from p2pkit.images.transforms import PairTransform
from p2pkit.inference import in_fast_layout, infer, noise_seeds, refuse_unfitting
from p2pkit.model_file import ModelHeader, write_model
from p2pkit.progress import Progress
from p2pkit.seeds import derived
from p2pkit.settings import LoaderSettings, OptimizerSettings, RunSettings, ScheduleSettings, TrainSettings, steps_in
from p2pkit.storage import written_aside

Translate = Callable[[Tensor], Tensor]
"""Sources [1, Cs, H, W] in [-1, 1] to outputs [1, Ct, H, W]."""


@dataclass(frozen=True)
class TrainingParts:
    """Everything that a run is made of, live."""

    run: RunSettings
    loader: LoaderSettings
    optimizers: Mapping[str, OptimizerSettings]
    schedule: ScheduleSettings
    train: TrainSettings
    pairs: PairedDataset
    held_out: PairedDataset
    transform: PairTransform
    method: Method
    header: ModelHeader
    """The model file's header, but for step and metrics."""
    evaluate: Callable[[Translate, Callable[[], None]], dict[str, float]]
    """Measures a translator on the held-out pairs, calling the second argument before each; {} when there are none."""


class Trainer:
    """Trains a method. Networks and optimizers are ready when it is made; :meth:`train` runs until a limit."""

    def __init__(self, parts: TrainingParts, accelerator: Accelerator, folder: RunFolder, resume_command: str) -> None:
        self.parts, self.accelerator, self.folder = parts, accelerator, folder
        self.resume_command = resume_command
        """What a person types to go on with this run."""
        self.steps_per_epoch = steps_per_epoch(len(parts.pairs), parts.loader, accelerator.num_processes)
        self.limits = Limits.of(parts.train, self.steps_per_epoch)
        self.step, self.seconds = 0, 0.0
        self.window = MetricsWindow()
        self.interruption = Interruption()
        self._prepare()
        self._saved_at = self._sampled_at = -1
        self._last_means: dict[str, float] = {}

    def _prepare(self) -> None:
        method, optimizers = self.parts.method, {}
        for name in method.networks:
            network = in_fast_layout(getattr(method, name), self.accelerator.device)
            optimizer = make_optimizer(network, self.parts.optimizers[name])
            network, optimizers[name] = prepared(self.accelerator, network, optimizer)
            setattr(method, name, network)
        for loss in method.losses:
            if isinstance(loss.loss, nn.Module):
                loss.loss.to(self.accelerator.device)
        self.update = Updater(self.accelerator, optimizers, self.parts.optimizers, self.parts.schedule)
        networks = {name: self.accelerator.unwrap_model(getattr(method, name)) for name in method.networks}
        self.trained = Trained(networks, optimizers, self.accelerator.scaler)

    def resume(self) -> list[str]:
        """Go back to the last whole checkpoint in the run folder; a message for each later one that is damaged."""
        progress, damaged = read_checkpoint(self.folder.checkpoints, self.trained)
        self.step, self.seconds = progress["step"], progress["seconds"]
        self.window = MetricsWindow(progress["metrics"])
        self._saved_at = self.step
        if self.accelerator.is_main_process:
            self.folder.remove_unfinished()
            # a window that is still open at its checkpoint has not been written by then
            drop_lines_after(self.folder.metrics, self.step - 1 if self.window else self.step)
        return damaged

    def train(self) -> dict[str, float]:
        """Train until a limit ends the run, then measure; the figures on the held-out pairs.

        Raises:
            Interrupted: a signal came; a checkpoint has been written.
            P2PKitError: data that cannot be read, a disk that cannot be written.
        """
        if self.parts.run.trackers:
            start_trackers(self.accelerator, self.folder.path)
        with self.interruption:
            try:
                self._train()
                return self._finish()
            except DataError as error:
                self._keep_what_is_trained(error)
                raise

    def _train(self) -> None:
        began, before = time.monotonic(), self.seconds
        so_far, shown = self.limits.progress(self.step, self.seconds), self.accelerator.is_main_process
        with Progress("training", self.limits.steps, "step", self.step, so_far, shown) as progress:
            for batch in self._batches():
                now = before + time.monotonic() - began
                signal, self.seconds = largest(self.accelerator, [self.interruption.signal, now])
                if signal:
                    self._stop(int(signal))
                done = self.limits.progress(self.step, self.seconds)
                if done >= 1.0:
                    break
                self._train_step(batch, done)
                self._write_what_is_due()
                progress.advance(1, self._note(), self.limits.progress(self.step, self.seconds))

    def _batches(self) -> Iterator[Batch]:
        parts, rank = self.parts, self.accelerator.process_index
        examples = Examples(parts.pairs, parts.transform, parts.loader.cache)
        batch_size, processes = parts.loader.batch_size, self.accelerator.num_processes
        shards = parts.pairs.shards if isinstance(parts.pairs, ShardedDataset) else None
        order = Order(len(parts.pairs), batch_size, parts.run.seed, self.step, rank, processes, shards)
        return batches(examples, order, parts.loader.workers)

    def _train_step(self, batch: Batch, done: float) -> None:
        rank = self.accelerator.process_index
        set_seed(derived(self.parts.run.seed, "step", self.step, rank) % 2**32)
        self.update.set_progress(done)
        refuse_unfitting(self.trained.networks["generator"], batch.source.shape[2:], ", ".join(batch.keys))
        device = self.accelerator.device
        source, target = (
            in_fast_layout(image.to(device, non_blocking=True), device) for image in (batch.source, batch.target)
        )
        try:
            self.parts.method.train_step(Batch(source, target, batch.keys), self.update)
        except NotFiniteError as error:
            self._leave_batch(batch, error)
        self.step += 1
        self.window.add(self.update.take_terms())

    def _leave_batch(self, batch: Batch, error: NotFiniteError) -> NoReturn:
        """Write the batch that has led to a loss that is no number, and tell all that is known of it."""
        file = self.folder.not_finite(self.step + 1, self.accelerator.process_index)
        with written_aside(file) as aside:
            tensors = {"source": batch.source.contiguous(), "target": batch.target.contiguous()}
            save_file(tensors, aside, metadata={"keys": "\n".join(batch.keys)})
        again = "No checkpoint had been written"
        if self._saved_at >= 0:
            again = f"The checkpoint of step {self._saved_at} is good; to go on from there:\n  {self.resume_command}"
        raise NotFiniteError(
            f"step {self.step + 1}: {error}. The files were {', '.join(batch.keys)}; the batch is in {file}. "
            f"Lower optimizer.lr, set optimizer.clip_gradient_norm, or look at the files. {again}"
        ) from error

    def _write_what_is_due(self) -> None:
        settings = self.parts.train
        if self.step % settings.log_every == 0:
            self._log()
        if self.step % settings.sample_every == 0:
            self._sample()
        if self.step % steps_in(settings.checkpoint_every, self.steps_per_epoch) == 0:
            self._save({})

    def _log(self) -> None:
        self._last_means = self.window.means()
        values = {**dict(self.update.learning_rates()), **self._last_means}
        self.window.clear()
        self._record("train", values)

    def _record(self, split: Literal["train", "held_out"], values: Mapping[str, float]) -> None:
        epoch = self.step / self.steps_per_epoch
        if self.accelerator.is_main_process:
            append_line(self.folder.metrics, {"step": self.step, "epoch": epoch, "split": split, **values})
        self.accelerator.log({"epoch": epoch, **values}, step=self.step)

    def _note(self) -> str:
        losses = "  ".join(f"{name} {value:.3g}" for name, value in self._last_means.items())
        return f"epoch {(self.step - 1) // self.steps_per_epoch + 1}  {losses}"

    def _translate(self, source: Tensor) -> Tensor:
        seeds = noise_seeds(self.parts.run.seed, len(source))
        generator = self.trained.networks["generator"]
        return infer(generator, source.to(self.accelerator.device), self.parts.header.policy, seeds)

    def _stop_if_asked(self) -> None:
        if self.interruption.signal:
            self._stop(self.interruption.signal)

    def _sample(self) -> None:
        if self.accelerator.is_main_process:
            parts = self.parts
            shown = parts.held_out if len(parts.held_out) else parts.pairs
            write_samples(self.folder.sample(self.step), shown, parts.pairs[0], parts.transform, self._translate)
        self._sampled_at = self.step
        self.accelerator.wait_for_everyone()

    def _save(self, figures: Mapping[str, float]) -> None:
        """Write the checkpoint and the model file of this step, unless they are there and ``figures`` adds nothing."""
        if self.accelerator.is_main_process:
            model = self.folder.model
            if self._saved_at != self.step or figures or not model.exists():
                weights = self.trained.networks["generator"].state_dict()
                write_model(model, weights, self.parts.header.trained(self.step, dict(figures)))
            if self._saved_at != self.step:
                progress = {"seconds": self.seconds, "metrics": self.window.state()}
                keep = self.parts.train.keep_checkpoints
                write_checkpoint(self.folder.checkpoints, self.step, self.trained, progress, keep)
        self._saved_at = self.step
        self.accelerator.wait_for_everyone()

    def _stop(self, signal: int) -> NoReturn:
        self._save({})
        self.accelerator.end_training()
        raise Interrupted(signal, f"interrupted at step {self.step}; {self._how_to_go_on()}")

    def _keep_what_is_trained(self, error: DataError) -> None:
        """Write a checkpoint before bad data ends the run, unless it has met one of several processes alone."""
        if self.step > 0 and self.accelerator.num_processes == 1:
            self._save({})
            raise DataError(f"{error}\nThe data ends the run; {self._how_to_go_on()} --accept-changed-data") from error

    def _how_to_go_on(self) -> str:
        return f"a checkpoint of step {self.step} is written. To go on:\n  {self.resume_command}"

    def _finish(self) -> dict[str, float]:
        if self.window:
            self._log()
        self._save({})
        if self._sampled_at != self.step:
            self._sample()
        measured = self.accelerator.is_main_process
        figures = self.parts.evaluate(self._translate, self._stop_if_asked) if measured else {}
        if figures:
            self._record("held_out", figures)
        self._save(figures)
        self.accelerator.end_training()
        return figures
