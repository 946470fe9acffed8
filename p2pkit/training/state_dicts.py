"""The state of methods and of what else has one, as a checkpoint takes it: JSON, and tensors in safetensors.

JSON has no tensors, tuples or keys that are numbers, so each of those is an object with a tag: ``{"tensor": NUMBER}``,
``{"tuple": [...]}``, ``{"dict": [[KEY, VALUE], ...]}``. Lists, text, numbers, booleans and None stand for themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from safetensors.torch import load, save
from torch import Tensor, nn

from p2pkit.contracts import Stateful
from p2pkit.distributed.collectives import all_gather_text, gather_bytes
from p2pkit.errors import P2PKitError, RecipeError, in_one_line


class SavedState(NamedTuple):
    """What one process has of one component's state."""

    value: Any
    """Its JSON, with the tensors numbered."""
    tensors: bytes
    """A safetensors file of the tensors by number; empty where there are none."""


def take_states(stateful: Mapping[str, Stateful]) -> dict[str, SavedState]:
    """The state of each component now, by name.

    Raises:
        RecipeError: a state holds what no checkpoint takes, or cannot be had; it names the component.
    """
    states = {}
    for name, component in stateful.items():
        tensors: dict[str, Tensor] = {}
        try:
            value = _as_json(component.state_dict(), "state_dict()", tensors)
            states[name] = SavedState(value, save(tensors) if tensors else b"")
        except Exception as error:
            why = str(error) if isinstance(error, P2PKitError) else f"state_dict() fails: {in_one_line(error)}"
            raise RecipeError(f"{name}: {why}") from error
    return states


def gather_states(accelerator: Accelerator, stateful: Mapping[str, Stateful]) -> dict[str, list[SavedState]]:
    """The state of each component on each process, by rank; a single one where all have the same.

    Only the main process gets the tensors of the others.
    """
    gathered: dict[str, list[SavedState]] = {}
    for name, (value, tensors) in take_states(stateful).items():
        # compared as text: NaN differs from itself
        states = list(
            zip(all_gather_text(accelerator, json.dumps(value)), gather_bytes(accelerator, tensors), strict=True)
        )
        states = states[:1] if len(set(states)) == 1 else states
        gathered[name] = [SavedState(json.loads(text), own) for text, own in states]
    return gathered


def put_back(component: Stateful, value: Any, tensors: Mapping[str, Tensor] | bytes, device: torch.device) -> None:
    """Give a component back the state that :func:`take_states` has taken; tensors of an accelerator go to ``device``.

    Raises:
        RecipeError: it does not take it.
    """
    if isinstance(tensors, bytes):
        tensors = load(tensors) if tensors else {}
    try:
        component.load_state_dict(_from_json(value, tensors, device))
    except Exception as error:
        raise RecipeError(
            f"load_state_dict() does not take back what state_dict() gave: {in_one_line(error)}"
        ) from error


def own_state(method: Any) -> Stateful:
    """What a checkpoint has to hold of a method beside its networks, which a torch module has in its state too."""
    inherited = isinstance(method, nn.Module) and type(method).state_dict is nn.Module.state_dict
    return _Rest(method) if inherited else method


class _Rest:
    """A torch module without the networks that it names."""

    def __init__(self, method: Any) -> None:
        self.method = method

    def state_dict(self) -> dict[str, Any]:
        """What belongs to none of the networks."""
        state: dict[str, Any] = self.method.state_dict()
        return {key: value for key, value in state.items() if key.partition(".")[0] not in self.method.networks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back, and leave the networks alone."""
        self.method.load_state_dict(state, strict=False)


def _as_json(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` in JSON, with its tensors put into ``tensors``; ``place`` is what messages call it."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized:
        number = str(len(tensors))
        tensors[number] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        last = value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        return {"tensor": number, "on_cpu": value.device.type == "cpu", "channels_last": last}
    if type(value) in (list, tuple):
        items = [_as_json(item, f"{place}[{index}]", tensors) for index, item in enumerate(value)]
        return {"tuple": items} if type(value) is tuple else items
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise RecipeError(f"{place} has the key {key!r}; a checkpoint takes text and whole numbers as keys")
        return {"dict": [[key, _as_json(item, f"{place}[{key!r}]", tensors)] for key, item in value.items()]}
    kind = f"{value.layout} tensor" if isinstance(value, Tensor) else type(value).__name__
    raise RecipeError(
        f"{place} is a {kind}; a checkpoint takes tensors, numbers, text, True, False and None, and "
        "lists, tuples and dicts of these"
    )


def _from_json(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if isinstance(value, list):
        return [_from_json(item, tensors, device) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]].to("cpu" if value["on_cpu"] else device)
        return tensor.contiguous(memory_format=torch.channels_last) if value["channels_last"] else tensor
    if "tuple" in value:
        return tuple(_from_json(item, tensors, device) for item in value["tuple"])
    return {key: _from_json(item, tensors, device) for key, item in value["dict"]}
