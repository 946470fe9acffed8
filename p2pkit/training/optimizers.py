"""Optimizers by timm's names, and whether one of them can be used and saved."""

from __future__ import annotations

import json

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class
from torch import nn
from torch.optim import Optimizer

from p2pkit.errors import RecipeError
from p2pkit.settings import OptimizerSettings
from p2pkit.training.checkpoint import optimizer_state, restore_optimizer


def make_optimizer(network: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """The optimizer of all of a network's parameters, as one group."""
    optimizer: Optimizer = create_optimizer_v2(
        network, settings.name, lr=settings.lr, weight_decay=settings.weight_decay, filter_bias_and_bn=False,
        betas=settings.betas,
    )  # fmt: skip
    return optimizer


def try_optimizer(settings: OptimizerSettings) -> None:
    """Take a step with an optimizer, and save and restore its state, on a network of two weights.

    PyTorch's own are known to work. Some of timm's need a GPU, a library, other options, or keep a state that no
    checkpoint without pickle can hold.

    Raises:
        RecipeError: it cannot be used here.
    """
    if get_optimizer_class(settings.name, bind_defaults=False).__module__.startswith("torch.optim."):
        return
    network = nn.Linear(2, 2)
    try:
        optimizer = make_optimizer(network, settings)
        network(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        moments, rest = optimizer_state(network, optimizer)
        restore_optimizer(network, optimizer, moments, json.loads(json.dumps(rest)))
    except Exception as error:
        raise RecipeError(
            f"optimizer.name: {settings.name!r} cannot be used here ({type(error).__name__}: {error}); choose another, "
            'such as "adam", "adamw", "lion" or "sgd"'
        ) from error
