"""What a step has to do at least: the bytes that it moves, and how fast a device moves bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from p2pkit.benchmarks.machine import waiting_for
from p2pkit.training.checkpoint import Trained

PASSES = 10
"""Of each weight, by Adam: read forwards and backwards; its gradient written and read; weight and both moments read
and written."""


@contextmanager
def counted_bytes(trained: Trained) -> Iterator[Callable[[], int]]:
    """What gives the bytes that the step in the body has to move at least, however its operations are put together.

    Those of weights, gradients and moments, and what is kept from a pass forwards to the one backwards, which is
    written once and read once.
    """
    weights = [weight for name in trained.optimizers for weight in trained.networks[name].parameters()]
    own, kept = {weight.data_ptr() for weight in weights}, dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(PASSES * weight.nbytes for weight in weights) + 2 * sum(kept.values())


def bandwidth(device: torch.device, size: int, seconds: float = 0.5) -> float:
    """Bytes a second that the device reads and writes, by copies of so many bytes; the best of those in ``seconds``."""
    source, wait = torch.ones(size // 4, device=device), waiting_for(device)
    target, best = torch.empty_like(source), float("inf")
    target.copy_(source)
    wait()
    first = time.perf_counter()
    while time.perf_counter() - first < seconds:
        began = time.perf_counter()
        target.copy_(source)
        wait()
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best
