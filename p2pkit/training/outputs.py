"""What a run writes on its way: metrics, sample grids, checkpoints and model files. The main process alone writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from torch import Tensor, nn

from p2pkit.data.bad_samples import LeftOut
from p2pkit.distributed.collectives import by_main_process, means_of_all, texts_of_all
from p2pkit.inference.model_file import write_model
from p2pkit.inference.policy import infer, noise_seeds
from p2pkit.run_dir import RunFolder
from p2pkit.training.checkpoint import Trained, write_checkpoint
from p2pkit.training.metrics_log import append_line
from p2pkit.training.parts import TrainingParts
from p2pkit.training.samples import write_samples
from p2pkit.training.state import Best, RunState
from p2pkit.utils.atomic import sync_file

Split = Literal["train", "held_out", "baseline"]
"""What the figures of a line of metrics are of."""


class Outputs:
    """Writes into the run folder. Every process calls the same methods at the same steps."""

    def __init__(
        self, parts: TrainingParts, accelerator: Accelerator, folder: RunFolder, trained: Trained, generator: nn.Module
    ) -> None:
        self.parts, self.accelerator, self.folder, self.trained = parts, accelerator, folder, trained
        self.generator = generator
        """The one that samples, figures and the model file show: the trained generator, or its average."""
        self.left_out = LeftOut(folder.bad_data)
        self.saved_at = self.sampled_at = -1
        self.saved_best: Best | None = None

    def translate(self, source: Tensor) -> Tensor:
        """What the generator makes of sources [N, Cs, H, W] now, on its device."""
        seeds = noise_seeds(self.parts.run.seed, len(source))
        return infer(self.generator, source.to(self.accelerator.device), self.parts.header.policy, seeds)

    def log(self, state: RunState, epoch: float, learning_rates: Mapping[str, float]) -> dict[str, float]:
        """Write the means of the window, which begins anew, over all processes."""
        means = means_of_all(self.accelerator, state.window.means())
        state.window.clear()
        self.record(state, epoch, "train", {**learning_rates, **means})
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
        if self.accelerator.is_main_process:
            append_line(self.folder.metrics, {"step": state.step, "epoch": epoch, "split": split, **values})
        self.accelerator.log({"epoch": epoch, **values}, step=state.step)

    def report_left_out(self, step: int, messages: Sequence[str]) -> None:
        """Tell and write which pairs have been left out on this process or on others, each once a run."""
        everyones = texts_of_all(self.accelerator, json.dumps(messages))
        if self.accelerator.is_main_process:
            self.left_out.report(step, [message for text in everyones for message in json.loads(text)])

    def sample(self, step: int) -> None:
        """Write the sample grid of a step, unless it is there. Raises MetByAll where a pair cannot be read."""
        if self.sampled_at != step:
            by_main_process(self.accelerator, partial(self._write_sample, step))
        self.sampled_at = step

    def _write_sample(self, step: int) -> None:
        parts, file = self.parts, self.folder.sample(step)
        shown = parts.held_out if len(parts.held_out) else parts.pairs
        left_out = write_samples(
            file, shown, parts.form, parts.transform, parts.loader.bad_data, self.translate, parts.picture
        )
        self.left_out.report(step, left_out)

    def save(self, state: RunState, figures: Mapping[str, float]) -> None:
        """Write the checkpoint and the model file of this step, unless they are there and ``figures`` adds nothing."""
        progress = state.as_json(partial(means_of_all, self.accelerator))
        saved, best = state.step == self.saved_at and state.best == self.saved_best, state.best and state.best.step
        if self.accelerator.is_main_process:
            if not saved or figures or not self.folder.model.exists():
                self._write_model(self.folder.model, state.step, figures)
            if not saved:
                if self.folder.metrics.exists():
                    sync_file(self.folder.metrics)  # a checkpoint must not outlive the lines before it
                if best == state.step:
                    self._write_model(self.folder.best_model, state.step, state.figures)
                keep = self.parts.train.keep_checkpoints
                write_checkpoint(self.folder.checkpoints, state.step, self.trained, progress, keep, best)
        self.mark_saved(state)
        self.accelerator.wait_for_everyone()

    def mark_saved(self, state: RunState) -> None:
        """Take note that the last checkpoint holds ``state``."""
        self.saved_at, self.saved_best = state.step, state.best

    def _write_model(self, file: Path, step: int, figures: Mapping[str, float]) -> None:
        write_model(file, self.generator.state_dict(), self.parts.header.trained(step, dict(figures)))
