"""Activation checkpointing (Chen et al. 2016): layers keep their input, and are computed again going backwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from p2pkit.errors import RecipeError


def checkpoint_activations(networks: Iterable[nn.Module]) -> None:
    """Have the layers in sequences (nn.Sequential) of ``networks`` computed again going backwards.

    Of each sequence those layers go together that follow one another and have no sequence within. Outputs, slopes,
    buffers, what is drawn and the names of all that is saved are as they were.

    Raises:
        RecipeError: there are none.
    """
    modules = [module for network in networks for module in network.modules()]
    sequences = [module for module in modules if type(module) is nn.Sequential and len(module) > 1]
    if not sequences:
        raise RecipeError("train.activation_checkpointing: no network has its layers in a nn.Sequential; leave it out")
    for sequence in sequences:
        sequence.__class__ = _Checkpointed


class _Checkpointed(nn.Sequential):
    def forward(self, input: Any) -> Any:  # noqa: A002 - as in torch
        if not self.training or not torch.is_grad_enabled():
            return _in_turn(list(self), input)
        for is_nested, layers in groupby(self, key=_holds_a_sequence):
            together = list(layers)
            if is_nested or len(together) == 1:
                input = _in_turn(together, input)  # noqa: A001
            else:
                contexts = partial(_contexts, together)
                input = checkpoint(_in_turn, together, input, use_reentrant=False, context_fn=contexts)  # noqa: A001
        return input


def _holds_a_sequence(layer: nn.Module) -> bool:
    return any(isinstance(module, _Checkpointed) for module in layer.modules())


def _in_turn(layers: Sequence[nn.Module], values: Any) -> Any:
    for layer in layers:
        values = layer(values)
    return values


def _contexts(layers: Sequence[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the layers' first pass, which is to begin, and each of the later ones."""
    modules = [module for layer in layers for module in layer.modules()]
    buffers = [(module, name, value) for module in modules for name, value in module.named_buffers(recurse=False)]
    return nullcontext(), _BuffersOfThen([(module, name, value.clone()) for module, name, value in buffers])


class _BuffersOfThen(AbstractContextManager[None]):
    """Computes with buffers as they were before the first pass, and leaves those alone that have changed since.

    Running statistics are not to move twice, and a spectral norm has to be that of the first pass.
    """

    def __init__(self, then: Sequence[tuple[nn.Module, str, Tensor]]) -> None:
        self._then = then
        self._now: list[Tensor | None] = []

    def __enter__(self) -> None:
        self._now = [module._buffers[name] for module, name, _ in self._then]
        for module, name, value in self._then:
            module._buffers[name] = value.clone()

    def __exit__(self, *_: object) -> None:
        for (module, name, _value), buffer in zip(self._then, self._now, strict=True):
            module._buffers[name] = buffer
