"""Adam, with which runs train unless they name another optimizer: PyTorch's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field
from torch import nn
from torch.optim import Adam

Rate = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]
LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)
"""The paper's (section 3.3, and its reference implementation)."""


def adam(
    params: Iterable[nn.Parameter],
    *,
    lr: Rate = LEARNING_RATE,
    betas: tuple[Beta, Beta] = BETAS,
    weight_decay: Decay = 0.0,
) -> Adam:
    """torch.optim.Adam, Adaptive Moment Estimation.

    Args:
        lr: the learning rate, before the schedule.
        betas: decay rates of the running means of gradients and of their squares.
        weight_decay: how strongly weights are drawn to zero.
    """
    # fused: one pass over the weights, which are more than caches hold
    return Adam(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
