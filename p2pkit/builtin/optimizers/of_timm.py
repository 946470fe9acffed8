"""The optimizers that timm knows by name: PyTorch's and many more."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import Field
from timm.optim import OptimInfo, create_optimizer_v2
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

Beta = Annotated[float, Field(ge=0, lt=1)]
LEARNING_RATE, BETAS, MOMENTUM = 2e-4, (0.5, 0.999), 0.9
"""Defaults: those of the paper's Adam, and timm's momentum."""
HELP = """

Args:
    lr: the learning rate, before the schedule.
    betas: decay rates of the running means of gradients and of their squares.
    momentum: decay rate of the running mean of gradients.
    weight_decay: how strongly weights are drawn to zero.
"""


def of_timm(info: OptimInfo) -> Callable[..., Optimizer]:
    """A factory of the optimizer that ``info`` describes, with those parameters that it has."""

    def make(params: Iterable[nn.Parameter], **options: Any) -> Optimizer:
        if info.opt_class in (Adam, AdamW, SGD):
            options["fused"] = True  # one pass over the weights, which are more than caches hold
        optimizer: Optimizer = create_optimizer_v2(params, info.name, **options)
        return optimizer

    own: dict[str, tuple[Any, Any]] = {"lr": (Annotated[float, Field(gt=0)], LEARNING_RATE)}
    if info.has_betas and info.num_betas == 3:
        own["betas"] = tuple[Beta, Beta, Beta], (0.98, 0.92, 0.99)  # Adan's, whose first is another than Adam's
    elif info.has_betas:
        own["betas"] = tuple[Beta, Beta], BETAS
    if info.has_momentum:
        own["momentum"] = Beta, MOMENTUM
    own["weight_decay"] = Annotated[float, Field(ge=0)], 0.0
    parameters, annotations = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)], {}
    for name, (annotation, default) in own.items():
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
        annotations[name] = annotation
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    make.__annotations__ = annotations
    make.__doc__ = f"{info.description}.{HELP}"
    return make
