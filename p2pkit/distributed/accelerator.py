"""Making the Accelerator: device, precision, how processes meet."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, patch_environment

from p2pkit.errors import ProcessLost, RecipeError, counted, first_line
from p2pkit.settings import TrainSettings, seconds_in
from p2pkit.utils.progress import print_line, process_count

MEETING_SECONDS = 20.0
"""Processes that have not met by then say what they wait for."""


def choose_device(name: str | None) -> torch.device:
    """The device called ``name``: "cpu", "cuda", "cuda:N" (N from 0 on), "mps"; "auto" or None is the best there is.

    Raises:
        RecipeError: there is no such device here, or a device is never called so.
    """
    gpus, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if name in (None, "auto"):
        return torch.device("cuda" if gpus else "mps" if mps else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", name):
        raise RecipeError(f"device {name!r}: expected cpu, cuda, cuda:N with the number N of a GPU, mps, or auto")
    kind, _, number = name.partition(":")
    if kind == "mps" and not mps:
        raise RecipeError("device mps: PyTorch finds no GPU of Apple here; choose cpu, or auto for the best there is")
    if kind == "cuda" and int(number or 0) >= gpus:
        there = f"this machine has {counted(gpus, 'GPU')}, cuda:0 to cuda:{gpus - 1}; choose one of them"
        none = "PyTorch finds no CUDA device here; choose cpu, or auto for the best there is"
        raise RecipeError(f"device {name}: {there if gpus else none}")
    return torch.device(name)


def described(device: torch.device) -> str:
    """A device in a few words: "cuda:0, NVIDIA H100", "cpu, threads: 4"."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return f"cuda:{index}, {torch.cuda.get_device_name(index)}"
    return f"cpu, threads: {torch.get_num_threads()}" if device.type == "cpu" else str(device)


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Have PyTorch take algorithms that give the same bits each time in the body, where that is ``wanted``.

    It is entered before a GPU is used.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS adds in any order
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def make_accelerator(settings: TrainSettings, device: str | None) -> Accelerator:
    """An Accelerator for this process on a ``device`` as :func:`choose_device` takes it; the main one prints it.

    ``settings`` give its precision, and how long processes look for each other and wait in a collective.

    Raises:
        RecipeError: there is no such device, or not one for each of several processes.
        ProcessLost: the processes have not found each other.
    """
    chosen = choose_device(device)
    if process_count() > 1 and device is not None and (":" in device or device == "mps"):
        raise RecipeError(f"device {device}: several processes need a GPU each; choose cuda, cpu or auto")
    if settings.precision == "fp16" and chosen.type == "cpu":
        raise RecipeError('train.precision: "fp16" needs a GPU; use "bf16" or "no" on a CPU')
    timeout = InitProcessGroupKwargs(timeout=timedelta(seconds=seconds_in(settings.collective_timeout)))
    met = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    report, held = f"waiting for the other processes at {met}", ExitStack()
    waiting = threading.Timer(MEETING_SECONDS, lambda: print_line(report, label=True))
    waiting.daemon = True
    if process_count() > 1:
        waiting.start()
    else:
        # Accelerate keeps device and precision for the whole process, and a notebook may train twice
        AcceleratorState._reset_state(reset_partial_state=True)
        if device not in (None, "auto"):  # with which it finds the best by itself
            held.enter_context(patch_environment(accelerate_torch_device=chosen))
        if chosen.index is not None:
            torch.cuda.set_device(chosen)  # for what asks for "cuda" without a number
    try:
        accelerator = Accelerator(
            # without a GPU, Accelerate takes each of several processes for the only one, unless asked to use the CPU
            cpu=chosen.type == "cpu" or (process_count() > 1 and chosen.type != "cuda"),
            mixed_precision=settings.precision,
            # the loop counts steps; an environment that asks for accumulation would only shrink the losses
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            # buffers are batch norm's statistics: the discriminator runs several times a step, and broadcasting them
            # in between would change what its backward passes saved
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False), timeout],
        )
    except RuntimeError as error:
        if (lost := _as_loss(error, met)) is None:
            raise
        raise lost from error
    finally:
        waiting.cancel()
        held.close()
    if accelerator.is_main_process:
        print_line(f"device: {described(accelerator.device)}")
    return accelerator


def _as_loss(error: RuntimeError, met: str) -> ProcessLost | None:
    """What it means that no Accelerator could be made: that processes have not met; None where it is not that."""
    from p2pkit.distributed.lost import is_loss

    if not (isinstance(error, torch.distributed.DistError) or is_loss(error)):
        return None
    found = f"the processes have not found each other at {met} (MASTER_ADDR:MASTER_PORT)"
    return ProcessLost(f"{found}: {first_line(error)}")
