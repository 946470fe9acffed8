"""Making the Accelerator: device, precision, how processes meet."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin

from p2pkit.errors import ProcessLost, RecipeError, first_line
from p2pkit.settings import TrainSettings, seconds_in
from p2pkit.utils.progress import labelled, print_line, process_count

MEETING_SECONDS = 20.0
"""Processes that have not met by then say what they wait for."""


def make_accelerator(settings: TrainSettings, device: str | None) -> Accelerator:
    """An Accelerator for this process; ``device`` is "cpu", "cuda", or None for the best there is.

    ``settings`` give its precision, and how long processes look for each other and wait in a collective.

    Raises:
        RecipeError: there is no such device.
        ProcessLost: the processes have not found each other.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: PyTorch finds no CUDA device here; leave the option out to use the CPU")
    if settings.precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise RecipeError('train.precision: "fp16" needs a GPU; use "bf16" or "no" on a CPU')
    timeout = timedelta(seconds=seconds_in(settings.collective_timeout))
    met = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    report = f"waiting for the other processes at {met}"
    waiting = threading.Timer(MEETING_SECONDS, lambda: print_line(labelled(report)))
    waiting.daemon = True
    if process_count() > 1:
        waiting.start()
    else:
        # Accelerate keeps device and precision for the whole process, and a notebook may train twice
        AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return Accelerator(
            # without a GPU, Accelerate takes each of several processes for the only one, unless asked to use the CPU
            cpu=device == "cpu" or (process_count() > 1 and not torch.cuda.is_available()),
            mixed_precision=settings.precision,
            # the loop counts steps; an environment that asks for accumulation would only shrink the losses
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            # buffers are batch norm's statistics: the discriminator runs several times a step, and broadcasting them
            # in between would change what its backward passes saved
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False), InitProcessGroupKwargs(timeout=timeout)
            ],
        )  # fmt: skip
    except RuntimeError as error:
        from p2pkit.distributed.lost import is_loss

        if not (isinstance(error, torch.distributed.DistError) or is_loss(error)):
            raise
        raise ProcessLost(
            f"the processes have not found each other at {met} (MASTER_ADDR:MASTER_PORT): {first_line(error)}"
        ) from error
    finally:
        waiting.cancel()
