"""Making the Accelerator: device, precision, trackers, and how networks are wrapped for many processes."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration
from torch import nn
from torch.optim import Optimizer

from p2pkit.errors import ProcessLost, RecipeError, first_line
from p2pkit.utils.processes import count, labelled
from p2pkit.utils.progress import say

MEETING_SECONDS = 20.0
"""Processes that have not met by then say what they wait for."""
PATIENCE = timedelta(hours=2)
"""How long a process waits in a collective for another that lives: the main one measures, and writes, alone."""


def make_accelerator(precision: str, device: str | None, trackers: Sequence[str]) -> Accelerator:
    """An Accelerator for this process; ``device`` is "cpu", "cuda", or None for the best there is.

    Raises:
        RecipeError: there is no such device, or a tracker is not installed.
        ProcessLost: the processes have not found each other.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: PyTorch finds no CUDA device here; leave the option out to use the CPU")
    if precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise RecipeError('train.precision: "fp16" needs a GPU; use "bf16" or "no" on a CPU')
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise RecipeError(f"run.trackers: {tracker!r} is not installed; pip install 'p2pkit[{tracker}]'")
    met = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    waiting = threading.Timer(MEETING_SECONDS, say, [labelled(f"waiting for the other processes at {met}")])
    waiting.daemon = True
    if count() > 1:
        waiting.start()
    try:
        return _accelerator(precision, device, trackers)
    except torch.distributed.DistError as error:
        raise ProcessLost(
            f"the processes have not found each other at {met} (MASTER_ADDR:MASTER_PORT): {first_line(error)}"
        ) from error
    finally:
        waiting.cancel()


def _accelerator(precision: str, device: str | None, trackers: Sequence[str]) -> Accelerator:
    return Accelerator(
        # without a GPU, Accelerate takes each of several processes for the only one, unless told to use the CPU
        cpu=device == "cpu" or (count() > 1 and not torch.cuda.is_available()),
        mixed_precision=precision,
        log_with=list(trackers) or None,
        # trackers are refused without a folder; theirs, the run folder, is made once the recipe has proved to work
        project_config=_tracking_in(Path()),
        # the loop counts steps; an environment that asks for accumulation would only shrink the losses
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        # buffers are batch norm's statistics: the discriminator runs several times a step, and broadcasting them in
        # between would change what its backward passes saved
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False), InitProcessGroupKwargs(timeout=PATIENCE)
        ],
    )  # fmt: skip


def prepared(accelerator: Accelerator, network: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """A network and its optimizer on the device, wrapped for several processes where there are several."""
    with warnings.catch_warnings():
        # Accelerate passes on the name that torch is about to change
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        both: tuple[nn.Module, Optimizer] = accelerator.prepare(network, optimizer)
    return both


def start_trackers(accelerator: Accelerator, folder: Path) -> None:
    """Let the trackers write into the run folder."""
    accelerator.project_configuration = _tracking_in(folder)
    accelerator.init_trackers("tensorboard")


def _tracking_in(folder: Path) -> ProjectConfiguration:
    return ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder))
