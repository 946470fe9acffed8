"""What optimizers keep, as checkpoints take it: tensors by the names of parameters, and the rest in JSON."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

SEPARATOR = "|"
"""Between the parts of a tensor's name in a checkpoint."""
_SHAPED = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta", "sum"}
)
"""What optimizers keep in the shape of a parameter, wherever they call it so."""


def optimizer_state(network: nn.Module, optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's tensors by ``PARAMETER|KEY``, and what else it keeps: options, and numbers beside the tensors."""
    state = optimizer.state_dict()
    names = _names_in(optimizer, network)
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for number, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[names[number] + SEPARATOR + key] = value
            else:
                numbers.setdefault(names[number], {})[key] = value
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    return tensors, {"groups": groups, "numbers": numbers}


def _names_in(optimizer: Any, network: nn.Module) -> list[str]:
    """The names of an optimizer's parameters as its state numbers them: group by group, not as the network has them."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def restore_optimizer(
    network: nn.Module, optimizer: Any, tensors: Mapping[str, Tensor], rest: Mapping[str, Any],
    new_options: Collection[str] = (),
) -> None:  # fmt: skip
    """Put back what :func:`optimizer_state` has taken out, after ``rest`` has been through JSON.

    ``new_options`` stay as the optimizer was made with them.
    """
    parameters = dict(network.named_parameters())
    numbers = {name: number for number, name in enumerate(_names_in(optimizer, network))}
    state: dict[int, dict[str, Any]] = {numbers[name]: dict(values) for name, values in rest["numbers"].items()}
    for path, tensor in tensors.items():
        name, key = path.split(SEPARATOR)
        like_parameter = key not in _SHAPED or tensor.shape in (parameters[name].shape, ())  # NovoGrad: one of a layer
        if not like_parameter or (key == "step" and not (tensor.numel() == 1 and 0 <= float(tensor) < math.inf)):
            raise ValueError(f"{key} of {name} is {list(tensor.shape)}, or no number of steps")
        state.setdefault(numbers[name], {})[key] = _laid_out_like(parameters[name], tensor)
    for group, present in zip(rest["groups"], optimizer.param_groups, strict=True):
        for key, value in group.items():
            _refuse_other_option(key, value, present.get(key))
    groups = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}
        | {key: present[key] for key in ("params", *new_options) if key in present}
        for group, present in zip(rest["groups"], optimizer.state_dict()["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _refuse_other_option(key: str, saved: Any, present: Any) -> None:
    """Raise ValueError where a number of an optimizer is none in the checkpoint, or is not finite."""
    pairs = [(saved, present)]
    if isinstance(saved, list | tuple) and isinstance(present, list | tuple):
        pairs = list(zip(saved, present, strict=True))
    for one, own in pairs:
        if type(own) is float and not (type(one) in (int, float) and math.isfinite(one)):
            raise ValueError(f"the option {key} of an optimizer is {one!r}")


def _laid_out_like(parameter: Tensor, moment: Tensor) -> Tensor:
    """``moment`` in the memory layout of its parameter, as the optimizer made it; a file knows one layout only."""
    if moment.shape != parameter.shape:
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype, device=moment.device).copy_(moment)
