"""A method's networks made ready to train: device, layout, processes, optimizers, EMA of the generator."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from p2pkit.contracts import Method, Stateful
from p2pkit.errors import P2PKitError, RecipeError, did_you_mean, in_one_line
from p2pkit.inference.statistics import InstanceNorm
from p2pkit.networks.fast_convolutions import speed_up_convolutions
from p2pkit.training.activation_checkpointing import checkpoint_activations
from p2pkit.training.checkpoint import Trained
from p2pkit.training.compiling import compile_network
from p2pkit.training.ema import MovingAverage
from p2pkit.training.optimizer_state import optimizer_state, restore_optimizer
from p2pkit.training.parts import TrainingParts
from p2pkit.training.state_dicts import own_state
from p2pkit.training.sync_norm import with_synchronised_norm

EMA = "ema"
"""The name under which checkpoints have the moving average of the generator's weights."""


def mend_gradients(network: nn.Module) -> None:
    """Let gradients come to a network's instance norms in the layout in which PyTorch handles them rightly.

    For a batch of one image, gradients that are channels last are taken for contiguous ones (seen in 2.15 on a CPU).
    """
    for module in network.modules():
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(_with_contiguous_gradient)


def _with_contiguous_gradient(module: nn.Module, given: object, output: Tensor) -> None:
    if output.requires_grad and not torch.compiler.is_compiling():  # which computes gradients its own way
        output.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]


def networks_of(parts: TrainingParts) -> list[nn.Module]:
    """Generator, discriminator and the method's own networks, each once."""
    found = {id(parts.generator): parts.generator}
    if parts.discriminator is not None:
        found[id(parts.discriminator)] = parts.discriminator
    for name in parts.method.networks:
        network: nn.Module = getattr(parts.method, name)
        found[id(network)] = network
    return list(found.values())


def refuse_untrainable(origin: str, method: Method, name: str) -> None:
    """Raise RecipeError, beginning with ``origin``, where a network that a method names cannot be trained."""
    network = getattr(method, name, None)
    if not isinstance(network, nn.Module):
        guess = did_you_mean(name, [key for key, value in vars(method).items() if isinstance(value, nn.Module)])
        raise RecipeError(f"{origin}: its networks name {name!r}, but it has no such torch module{guess}")
    if any(map(is_lazy, network.parameters())):
        raise RecipeError(f"{origin}: {name} has lazy layers, which have no weights yet; give them their channels")
    if not any(map(attrgetter("requires_grad"), network.parameters())):
        raise RecipeError(f"{origin}: {name} has nothing to train: no parameter of it takes a gradient")


def to_device(parts: TrainingParts, device: torch.device) -> None:
    """Put networks and losses on ``device``, with what is fastest there, and takes as little memory as is asked for."""
    for network in networks_of(parts):
        speed_up_convolutions(network.to(device))
    if parts.train.activation_checkpointing:
        checkpoint_activations(networks_of(parts))
    for loss in parts.losses:
        if isinstance(module := getattr(loss.loss, "component", None), nn.Module):
            module.to(device)


def prepare_networks(parts: TrainingParts, accelerator: Accelerator) -> Trained:
    """Make the method's networks, which are on the device, ready to train; the method then holds them so."""
    method, optimizers = parts.method, {}
    for name in method.networks:
        network = getattr(method, name)
        mend_gradients(network)
        if parts.train.compile:
            compile_network(network)
        if parts.train.sync_norm and accelerator.num_processes > 1:
            network = with_synchronised_norm(network, accelerator.device)
        optimizer = parts.optimizers[name](params=list(network.parameters()))
        with warnings.catch_warnings():
            # Accelerate passes on the name that torch is about to change
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            network, optimizers[name] = accelerator.prepare(network, optimizer)
        setattr(method, name, network)
    networks: dict[str, nn.Module] = {}
    for name in method.networks:
        networks[name] = accelerator.unwrap_model(getattr(method, name))
    if parts.train.ema_decay is not None:
        networks[EMA] = MovingAverage(networks["generator"], parts.train.ema_decay, accelerator.device)
    stateful: dict[str, Stateful] = {}
    for name, each in {"method": method, "schedule": parts.schedule, **parts.callbacks}.items():
        if isinstance(each, Stateful):
            stateful[name] = own_state(method) if name == "method" else each
    return Trained(networks, optimizers, accelerator.scaler, stateful)


def try_optimizer(make: Callable[..., Any], origin: str) -> None:
    """Take a step with an optimizer, and save and restore its state, on a network of two weights.

    The states of PyTorch's own are known to be saved. Some of timm's need a GPU, a library, other options, or keep a
    state that no checkpoint without pickle can hold.

    Raises:
        RecipeError: it cannot be used here.
    """
    network = nn.Linear(2, 2)
    try:
        optimizer = make(params=list(network.parameters()))
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"found a {type(optimizer).__name__}, expected a torch.optim.Optimizer")
        network(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        if type(optimizer).__module__.startswith("torch.optim."):
            return
        moments, rest = optimizer_state(network, optimizer)
        restore_optimizer(network, optimizer, moments, json.loads(json.dumps(rest)))
        for group in optimizer.param_groups:
            float(group["lr"])  # the schedule multiplies it
    except P2PKitError:
        raise
    except Exception as error:
        raise RecipeError(
            f"optimizer.name: {origin} cannot be used here ({in_one_line(error)}); choose another, such as "
            '"adam", "adamw", "lion" or "sgd"'
        ) from error
