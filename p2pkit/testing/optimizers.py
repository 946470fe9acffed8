"""The contract of an optimizer (run_contracts.OptimizerFactory)."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim import Optimizer

from p2pkit.testing.checks import Subject, contract, require
from p2pkit.testing.networks import images
from p2pkit.training.checkpoint import Trained, read_checkpoint, write_checkpoint

STEPS = 2


def _made(subject: Subject, seed: int = 0) -> tuple[nn.Sequential, Any]:
    """A small network, and its optimizer."""
    set_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.2), nn.Conv2d(8, 3, 1, bias=False))
    return network, subject.make(seed, params=list(network.parameters()))


def _step(network: nn.Module, optimizer: Any, seed: int) -> None:
    optimizer.zero_grad()
    network(images(3, 8, 8, seed=seed)).square().mean().backward()
    optimizer.step()


def _weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def _moved(network: nn.Module, before: list[Tensor]) -> list[str]:
    named = zip(network.named_parameters(), before, strict=True)
    return [name for (name, parameter), old in named if not torch.equal(parameter, old)]


@contract("it is a torch.optim.Optimizer of the parameters that it is given, each once, with an `lr` in each group")
def optimizes_what_it_is_given(subject: Subject) -> None:
    """All of a network's parameters, and no other."""
    network, optimizer = _made(subject)
    require(isinstance(optimizer, Optimizer), f"a {type(optimizer).__name__}")
    found = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    require(sorted(found) == sorted(map(id, network.parameters())), f"{len(found)} parameters, not those it was given")
    for group in optimizer.param_groups:
        require(isinstance(group.get("lr"), float | int), f"lr = {group.get('lr')!r} in a group, expected a number")


@contract("a step moves weights that have a gradient, and leaves those without one as they are")
def moves_what_has_a_gradient(subject: Subject) -> None:
    """Steps with all gradients, and one in which the first layer has none."""
    network, optimizer = _made(subject)
    before = _weights(network)
    for step in range(STEPS):
        _step(network, optimizer, step)
    require(_moved(network, before), f"all weights the same after {STEPS} steps")
    require(all(bool(weights.isfinite().all()) for weights in _weights(network)), "weights that are not finite")
    before = _weights(network)
    network(images(3, 8, 8)).square().mean().backward()
    network[0].weight.grad = network[0].bias.grad = None
    optimizer.step()
    moved = [name for name in _moved(network, before) if name.startswith("0.")]
    require(not moved, f"a step without a gradient of {', '.join(moved)} has moved it")


@contract("how far a step goes is up to the `lr` of each group, which the schedule sets")
def obeys_the_learning_rate(subject: Subject) -> None:
    """Steps at the learning rate that it begins with, and the same at a thousandth of it."""
    went = []
    for factor in (1.0, 1e-3):
        network, optimizer = _made(subject)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        before = _weights(network)
        for step in range(STEPS):
            _step(network, optimizer, step)
        steps = zip(_weights(network), before, strict=True)
        went.append(max(float((now - old).abs().max()) for now, old in steps))
    require(went[1] < 0.5 * went[0], f"steps of {went[0]:.3g}, and of {went[1]:.3g} at a thousandth of the rate")


@contract("a run resumed from a checkpoint is exact: its state is tensors and plain values, and all that it needs")
def resumes_exactly(subject: Subject) -> None:
    """Some steps, a checkpoint, an optimizer made anew, one more step of both."""
    network, optimizer = _made(subject)
    for step in range(STEPS):
        _step(network, optimizer, step)
    other, anew = _made(subject, seed=1)
    with TemporaryDirectory() as folder:
        trained = Trained({"network": network}, {"network": optimizer})
        write_checkpoint(Path(folder), STEPS, trained, {}, keep=1)
        read_checkpoint(Path(folder), Trained({"network": other}, {"network": anew}))
    _step(network, optimizer, STEPS)
    _step(other, anew, STEPS)
    require(not _moved(other, _weights(network)), "other weights one step after resuming")


CHECKS = (optimizes_what_it_is_given, moves_what_has_a_gradient, obeys_the_learning_rate, resumes_exactly)
