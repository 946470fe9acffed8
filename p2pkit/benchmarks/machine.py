"""What a machine can do, and what it is doing: the rate of matrix products, peak memory, how busy its cores are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

SIZES = {"cpu": (512, 1024, 2048)}
LARGE_SIZES = 2048, 4096, 8192
"""Sides of the matrices that are multiplied, on a CPU and on others."""
SECONDS, LEAST = 0.2, 2
"""How long, and how often at least, each is multiplied."""


def matrix_ceiling(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of the fastest matrix product of several sizes.

    Of float32 on a GPU with TF32 where convolutions are computed with it.
    """
    with _tf32_as_in_convolutions():
        return max(_rate(size, device, dtype) for size in SIZES.get(device.type, LARGE_SIZES))


@torch.no_grad()
def _rate(size: int, device: torch.device, dtype: torch.dtype) -> float:
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    made, wait, best = torch.empty_like(one), waiting_for(device), float("inf")
    torch.mm(one, other, out=made)
    wait()
    first = time.perf_counter()
    done = 0
    while done < LEAST or time.perf_counter() - first < SECONDS:
        began = time.perf_counter()
        torch.mm(one, other, out=made)
        wait()
        best, done = min(best, time.perf_counter() - began), done + 1
    return 2 * size**3 / best


@contextmanager
def _tf32_as_in_convolutions() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def waiting_for(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all that it was given."""
    return _nothing if device.type == "cpu" else torch.accelerator.synchronize


def _nothing() -> None:
    """What waits for a CPU."""


@contextmanager
def counted_flop() -> Iterator[Callable[[], int]]:
    """What gives the FLOP of convolutions and matrix products in the body, both of forward and backward passes.

    What runs in a compiled program is not seen.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        yield counter.get_total_flops


@dataclass
class Load:
    """How busy the machine's cores are, from now on."""

    began: float = field(default_factory=time.perf_counter)
    before: tuple[float, float, float] = field(default_factory=lambda: _core_seconds())

    def cores(self) -> tuple[float, float]:
        """How many cores other programs have kept busy, and how many were idle."""
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        busy, idle, own = (now - then for now, then in zip(_core_seconds(), self.before, strict=True))
        return max(0.0, busy - own) / elapsed, max(0.0, idle) / elapsed


def _core_seconds() -> tuple[float, float, float]:
    """Seconds in which cores were busy, in which they were idle, and those of this process and its children."""
    spent = psutil.cpu_times()._asdict()
    idle = spent.pop("idle") + spent.pop("iowait", 0.0)
    busy = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)  # which are user's too
    return busy, idle, cpu_seconds(psutil.Process())


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds so far of a process and its children."""
    spent = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            times = each.cpu_times()
            spent += times.user + times.system
    return spent


def core_count() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
