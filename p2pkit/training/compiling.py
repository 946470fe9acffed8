"""Networks compiled by PyTorch (torch.compile): how, and whether there is a compiler."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p2pkit.errors import in_one_line


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
