"""A method's networks made ready to train: device, layout, processes, optimizers, the generator's average."""

from __future__ import annotations

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from p2pkit.distributed.accelerator import prepared
from p2pkit.inference.policy import in_fast_layout
from p2pkit.inference.statistics import InstanceNorm
from p2pkit.training.checkpoint import Trained
from p2pkit.training.optimizers import make_optimizer
from p2pkit.training.parts import TrainingParts
from p2pkit.training.sync_norm import with_synchronised_norm

AVERAGE = "average"
"""The name under which checkpoints have the generator's average."""


def mend_gradients(network: nn.Module) -> None:
    """Let gradients come to a network's instance norms in the layout in which PyTorch goes on with them rightly.

    For a batch of one image, gradients that are channels last are taken for contiguous ones (seen in 2.15 on a CPU).
    """
    for module in network.modules():
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(_with_contiguous_gradient)


def _with_contiguous_gradient(module: nn.Module, given: object, output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]


def prepare_networks(parts: TrainingParts, accelerator: Accelerator) -> Trained:
    """Put the method's networks and losses on the device; the method then holds them as they are trained."""
    method, optimizers = parts.method, {}
    for name in method.networks:
        network = in_fast_layout(getattr(method, name), accelerator.device)
        mend_gradients(network)
        if parts.train.sync_norm and accelerator.num_processes > 1:
            network = with_synchronised_norm(network, accelerator.device)
        optimizer = make_optimizer(network, parts.optimizers[name])
        network, optimizers[name] = prepared(accelerator, network, optimizer)
        setattr(method, name, network)
    for loss in method.losses:
        if isinstance(loss.loss, nn.Module):
            in_fast_layout(loss.loss.to(accelerator.device), accelerator.device)
    networks: dict[str, nn.Module] = {name: accelerator.unwrap_model(getattr(method, name)) for name in method.networks}
    decay = parts.train.average_decay
    if decay is not None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        networks[AVERAGE] = AveragedModel(networks["generator"], multi_avg_fn=average)
    return Trained(networks, optimizers, accelerator.scaler)
