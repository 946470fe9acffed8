"""The optimizers that timm knows by name: most of PyTorch's and many more."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from timm.optim import OptimInfo, create_optimizer_v2
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from p2pkit.builtin.optimizers.adam import BETAS, LEARNING_RATE, Beta, Decay, Rate

MOMENTUM = 0.9
"""timm's."""
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
        if info.opt_class in (AdamW, SGD):
            options["fused"] = True  # one pass over the weights, which are more than caches hold
        optimizer: Optimizer = create_optimizer_v2(params, info.name, **options)
        return optimizer

    own: dict[str, tuple[Any, Any]] = {"lr": (Rate, LEARNING_RATE)}
    if info.has_betas and info.num_betas == 3:
        own["betas"] = tuple[Beta, Beta, Beta], (0.98, 0.92, 0.99)  # Adan's, whose first is another than Adam's
    elif info.has_betas:
        own["betas"] = tuple[Beta, Beta], BETAS
    if info.has_momentum:
        own["momentum"] = Beta, MOMENTUM
    own["weight_decay"] = Decay, 0.0
    parameters, annotations = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)], {}
    for name, (annotation, default) in own.items():
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
        annotations[name] = annotation
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    make.__annotations__ = annotations
    make.__doc__ = f"{info.description}.{HELP}"
    return make
