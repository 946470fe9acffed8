"""A method's networks made ready to train: device, layout, processes, optimizers, EMA of the generator."""

from __future__ import annotations

import warnings

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from p2pkit.contracts import Stateful
from p2pkit.inference.statistics import InstanceNorm
from p2pkit.networks.fitting import in_fast_layout
from p2pkit.training.checkpoint import Trained
from p2pkit.training.optimizers import make_optimizer
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
    if output.requires_grad:
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


def to_device(parts: TrainingParts, device: torch.device) -> None:
    """Put networks and losses on ``device``, in the layout that is fastest there."""
    for network in networks_of(parts):
        in_fast_layout(network.to(device), device)
    for loss in parts.method.losses:
        if isinstance(module := getattr(loss.loss, "component", None), nn.Module):
            in_fast_layout(module.to(device), device)


def prepare_networks(parts: TrainingParts, accelerator: Accelerator) -> Trained:
    """Make the method's networks, which are on the device, ready to train; the method then holds them so."""
    method, optimizers = parts.method, {}
    for name in method.networks:
        network = getattr(method, name)
        mend_gradients(network)
        if parts.train.sync_norm and accelerator.num_processes > 1:
            network = with_synchronised_norm(network, accelerator.device)
        optimizer = make_optimizer(network, parts.optimizers[name])
        with warnings.catch_warnings():
            # Accelerate passes on the name that torch is about to change
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            network, optimizers[name] = accelerator.prepare(network, optimizer)
        setattr(method, name, network)
    networks: dict[str, nn.Module] = {}
    for name in method.networks:
        networks[name] = accelerator.unwrap_model(getattr(method, name))
    decay = parts.train.ema_decay
    if decay is not None:
        ema = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        networks[EMA] = AveragedModel(networks["generator"], multi_avg_fn=ema)
    stateful = {"method": own_state(method)} if isinstance(method, Stateful) else {}
    return Trained(networks, optimizers, accelerator.scaler, stateful)
