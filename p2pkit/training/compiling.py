"""Networks compiled by PyTorch (torch.compile): whether there is a compiler, and what cannot be compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from p2pkit.errors import RecipeError, in_one_line

_NO_SECOND_DERIVATIVE = "does not currently support double backward"


def compile_network(network: nn.Module) -> None:
    """Have ``network`` compiled when it is first called. Its names, its state and what it draws stay as they are."""
    network.compile(options={"fallback_random": True})


def why_not_compiled(device: torch.device) -> str:
    """Why nothing can be compiled for ``device`` here, in a sentence; empty where something can."""
    try:
        torch.compile(_tried)(torch.ones(2, device=device))
    except Exception as error:  # of the compiler, its driver, or PyTorch where it does not know this Python yet
        return in_one_line(error)
    return ""


def _tried(values: Tensor) -> Tensor:
    return values.tanh() + 1


@contextmanager
def compiling_failures_named() -> Iterator[None]:
    """Turn what a step of compiled networks fails by into a sentence, where it is for being compiled.

    Raises:
        RecipeError: a loss takes gradients of gradients, or a network cannot be compiled.
    """
    try:
        yield
    except RuntimeError as error:
        if _NO_SECOND_DERIVATIVE in str(error):
            why = "PyTorch has no second derivative of compiled networks, which a loss of gradients takes"
        elif type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            why = f"a network cannot be compiled ({in_one_line(error)})"
        else:
            raise
        raise RecipeError(f"train.compile: {why}; leave train.compile out") from error
