"""What a run writes on its way: metrics, sample grids, checkpoints and model files. The main process alone writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator
from torch import Tensor, nn

from p2pkit.data.bad_samples import SkippedLog
from p2pkit.distributed.collectives import all_gather_text, all_reduce_mean, on_main_process
from p2pkit.errors import WriteError
from p2pkit.evaluation.driver import ImageScores
from p2pkit.evaluation.report import ranked
from p2pkit.images.reading import read_image
from p2pkit.inference.model_file import write_model
from p2pkit.inference.policy import infer, noise_seeds
from p2pkit.run_dir import RunDir
from p2pkit.training.checkpoint import Trained, write_checkpoint
from p2pkit.training.discriminator_augmentation import augmentation_metrics
from p2pkit.training.parts import TrainingParts
from p2pkit.training.sample_grids import sample_rows, write_grid
from p2pkit.training.sample_statistics import sample_statistics
from p2pkit.training.state import RunState
from p2pkit.training.state_dicts import gather_states
from p2pkit.training.trackers import log_picture
from p2pkit.utils.atomic import sync, write_json
from p2pkit.utils.jsonl import append_line

Split = Literal["train", "validation", "baseline"]
"""What a line of metrics.jsonl is of."""
SHOWN = 3
"""So many of the best images of a validation are shown, and of the worst."""


@dataclass
class Outputs:
    """Writes into the run folder. Every process calls the same methods at the same steps."""

    parts: TrainingParts
    accelerator: Accelerator
    folder: RunDir
    trained: Trained
    generator: nn.Module
    """The one that samples, metrics and the model file show: the trained generator, or its EMA."""
    saved_at: int = -1
    sampled_at: int = -1
    model_of: int = -1
    """The step of the model file, as far as this process knows."""
    saved: tuple[object, ...] = ()
    """What else the last checkpoint holds of how far the run is."""

    @cached_property
    def skipped(self) -> SkippedLog:
        """The log of bad samples."""
        return SkippedLog(self.folder.bad_data)

    def translate(self, source: Tensor) -> Tensor:
        """What the generator makes of sources [N, Cs, H, W] now, on its device."""
        seeds = noise_seeds(
            0, len(source)
        )  # as evaluate and translate draw it, so that numbers and pictures are theirs
        return infer(self.generator, source.to(self.accelerator.device), self.parts.header.policy, seeds)

    def log(self, state: RunState, epoch: float, learning_rates: Mapping[str, float]) -> dict[str, float]:
        """Write the means of the window, which begins anew, over all processes."""
        means = all_reduce_mean(self.accelerator, state.window.means())
        state.window.clear()
        augmentation = dict(augmentation_metrics(self.trained.networks))
        self.record(state, epoch, "train", {**learning_rates, **means, **augmentation})
        return means

    def record(
        self,
        state: RunState,
        epoch: float,
        split: Split,
        values: Mapping[str, float],
    ) -> None:
        """Write one line of metrics, and pass it to the trackers."""
        if not values:
            return
        line = {"step": state.step, "epoch": epoch, "split": split, **values}
        on_main_process(self.accelerator, lambda: append_line(self.folder.metrics, line))
        self.accelerator.log({"epoch": epoch, **values}, step=state.step)

    def write_validation(self, step: int, facts: Mapping[str, Any]) -> None:
        """Write what the metrics of a step are of and were computed with, in place of those before."""
        directions = self.parts.validation.higher_is_better
        which = {"monitor": self.parts.validation.deciding(directions), "higher_is_better": directions}
        found = {"step": step, **facts, **which}
        on_main_process(self.accelerator, lambda: write_json(self.folder.validation, found) if facts else None)

    def report_skipped(self, step: int, messages: Sequence[str]) -> None:
        """Report which pairs have been skipped on this process or on others, each once a run."""
        everyones = all_gather_text(self.accelerator, json.dumps(messages))
        messages = [message for text in everyones for message in json.loads(text)]
        on_main_process(self.accelerator, lambda: self.skipped.report(step, messages))

    def sample(self, step: int) -> None:
        """Write the sample grid of a step, unless it is there. Raises SharedDataError where a pair cannot be read."""
        if self.sampled_at != step:
            on_main_process(self.accelerator, partial(self._write_sample, step))
        self.sampled_at = step

    def _write_sample(self, step: int) -> None:
        validation, file = self.parts.validation, self.folder.sample(step)
        shown = validation.validation_set if len(validation.validation_set) else validation.train_set
        title = f"step {step}, {validation.called or 'train set'}"
        rows, skipped = sample_rows(shown, validation, self.translate, self.parts.sources)
        write_grid(file, title, rows, sample_statistics(rows))
        self.skipped.report(step, skipped)
        if self.accelerator.trackers:
            log_picture(self.accelerator, read_image(file), step)

    def show_best_and_worst(self, step: int, images: Sequence[ImageScores]) -> None:
        """Write the grid of those ``images`` of the validation set that are best and worst by what decides, if any."""
        on_main_process(self.accelerator, partial(self._write_best_and_worst, step, images))

    def _write_best_and_worst(self, step: int, images: Sequence[ImageScores]) -> None:
        validation, first = self.parts.validation, images[0].rows.get("validation", {})
        name = validation.deciding(first)
        if name not in first or (direction := validation.higher_is_better[name]) is None:
            return
        scores = {image.key: image for image in images}
        keys = ranked(images, "validation", name, direction)
        chosen, half = list[tuple[int, str]](), min(SHOWN, -(-len(keys) // 2))
        for called, part in (("best", keys[:half]), ("worst", keys[half:][::-1][:SHOWN])):
            for key in part:
                chosen.append((scores[key].place, f"{called}, {name} {scores[key].rows['validation'][name]:.4g}"))
        rows, _ = sample_rows(validation.validation_set, validation, self.translate, self.parts.sources, chosen)
        title = f"step {step}, {validation.called}: the best and the worst of {len(images)} images by {name}"
        write_grid(self.folder.validation_pictures, title, rows)

    def save(self, state: RunState, metrics: Mapping[str, float]) -> bool:
        """Write the checkpoint and the model file of this step, unless they are there and ``metrics`` adds nothing.

        Gives whether there is a new checkpoint.

        Raises:
            WriteError: the disk is full, or writing is not allowed; or a network has become NaN or infinite.
        """
        progress = state.as_json(partial(all_reduce_mean, self.accelerator))
        saved = state.step == self.saved_at and (state.best, state.stopped, state.finished) == self.saved
        best = state.best and state.best.step
        states = {} if saved else gather_states(self.accelerator, self.trained.stateful)

        def write() -> None:
            if not saved:
                refuse_spoilt(state.step, self.trained)
                if self.folder.metrics.exists():
                    sync(self.folder.metrics)  # a checkpoint must not outlive the lines before it
                if best == state.step:
                    self._write_model(self.folder.best_model, state.step, state.metrics)
                keep = self.parts.train.keep_checkpoints
                write_checkpoint(self.folder.checkpoints, state.step, self.trained, progress, keep, best, states)
            # behind the checkpoint: a folder with a model and none would neither resume nor begin anew
            if metrics or self.model_of != state.step:
                self._write_model(self.folder.model, state.step, metrics)

        on_main_process(self.accelerator, write)
        self.mark_saved(state)
        self.model_of = state.step
        return not saved

    def mark_saved(self, state: RunState) -> None:
        """Take note that the last checkpoint holds ``state``."""
        self.saved_at, self.saved = state.step, (state.best, state.stopped, state.finished)

    def _write_model(self, file: Path, step: int, metrics: Mapping[str, float]) -> None:
        write_model(file, self.generator.state_dict(), self.parts.header.trained(step, dict(metrics)))


def refuse_spoilt(step: int, trained: Trained) -> None:
    """Raise WriteError where a weight is NaN or infinite, or a buffer NaN: nothing could be resumed or made from that.

    Losses may be finite all the same, until the next step. Buffers may be infinite for good, as masks are.
    """
    for network, module in trained.networks.items():
        weights = {name for name, _ in module.named_parameters()}
        for name, tensor in {**dict(module.named_buffers()), **dict(module.named_parameters())}.items():
            spoilt = tensor.isfinite().logical_not() if name in weights else tensor.isnan()
            if spoilt.any():
                raise WriteError(
                    f"after step {step} {name} of the {network} is NaN or infinite, although the losses are finite: "
                    "neither a checkpoint nor a model is written of it. Lower optimizer.lr, or set "
                    "optimizer.clip_gradient_norm"
                )
