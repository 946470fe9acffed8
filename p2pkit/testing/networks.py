"""What networks of every kind are put through: gradients, copies, checkpoints, the meta device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.testing.checks import ContractViolation, require
from p2pkit.training.checkpoint import Trained, read_checkpoint, write_checkpoint

NUDGE = 0.02
"""How far weights are moved at random before gradients are looked at: gates that begin at zero are then open."""
Channels = dict[str, int]
CHANNELS: Sequence[Channels] = (
    {"source_channels": 3, "target_channels": 3},
    {"source_channels": 1, "target_channels": 4},
)
"""Colour to colour, and numbers of channels that differ."""


def images(channels: int, height: int, width: int, count: int = 2, seed: int = 0) -> Tensor:
    """Noise [N, C, H, W] in [-1, 1] that depends on its arguments alone."""
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def require_same_weights(first: nn.Module, second: nn.Module, found: str) -> None:
    """Raise ContractViolation, with the name of a tensor after ``found``, when two state dicts differ."""
    one, other = first.state_dict(), second.state_dict()
    require(one.keys() == other.keys(), f"{found}: {', '.join(sorted(one.keys() ^ other.keys()))}")
    for name, tensor in one.items():
        require(torch.equal(tensor, other[name]), f"{found}: {name}")


def require_trainable(network: Any) -> None:
    """Raise ContractViolation unless ``network`` is a torch module with parameters that an optimizer can train."""
    require(isinstance(network, nn.Module), f"its factory returned {type(network).__name__}, not a torch.nn.Module")
    require(any(each.requires_grad for each in network.parameters()), "no parameter that requires a gradient")


def require_gradients(network: nn.Module, run: Callable[[], Tensor]) -> None:
    """Raise ContractViolation when a trainable parameter of ``network`` has no part in ``run()``, a scalar.

    Vectors (biases, scales) may be at rest, as those are that instance norm takes out again.
    """
    set_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=NUDGE)
    run().backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = parameter.grad
        if gradient is None:
            raise ContractViolation(f"{name} has no gradient: the output does not depend on it. Use it, or freeze it")
        require(gradient.isfinite().all(), f"the gradient of {name} is not finite")
        require(parameter.ndim < 2 or gradient.any(), f"the gradient of {name} is zero everywhere")


def require_no_gradient_without_weight(gradient: Tensor | None, mask: Tensor, of: str = "") -> None:
    """Raise ContractViolation unless the gradient of an output [N, C, H, W] is 0 where its mask is, not everywhere."""
    if gradient is None or not gradient.any():
        raise ContractViolation(f"no gradient of the output{of}, beside a mask")
    require(gradient.isfinite().all(), f"a gradient of the output that is not finite, beside a mask{of}")
    unweighted = int(gradient.masked_select(mask == 0).count_nonzero())
    require(not unweighted, f"{unweighted} values of the output have a gradient where the mask is 0{of}")


def default_optimizer(network: nn.Module) -> Any:
    """The optimizer that a recipe has by default."""
    return create("optimizers", "adam", params=list(network.parameters()))


def train_a_step(network: nn.Module, run: Callable[[], Tensor]) -> Any:
    """Lower ``run()`` by one step of the default optimizer; that optimizer."""
    optimizer = default_optimizer(network)
    run().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def require_same_after_checkpoint(
    network: nn.Module, anew: nn.Module, optimizer: Any, output: Callable[[nn.Module], Sequence[Tensor]]
) -> None:
    """Raise ContractViolation unless ``anew``, with the checkpoint of ``network`` in it, gives the same output."""
    other = default_optimizer(anew)
    with TemporaryDirectory() as folder:
        checkpoints = Path(folder)
        write_checkpoint(checkpoints, 1, Trained({"network": network}, {"network": optimizer}), {}, keep=1)
        read_checkpoint(checkpoints, Trained({"network": anew}, {"network": other}))
    same = all(torch.equal(*both) for both in zip(output(network), output(anew), strict=True))
    require(same, "another output: some state is neither a parameter nor a buffer that is saved")


def require_copies(network: nn.Module, output: Callable[[nn.Module], Sequence[Tensor]]) -> None:
    """Raise ContractViolation unless a deep copy gives the same output and shares no weights."""
    copied = deepcopy(network)
    require(all(map(torch.equal, output(network), output(copied))), "the copy gives another output")
    own = {parameter.data_ptr() for parameter in network.parameters()}
    require(not any(each.data_ptr() in own for each in copied.parameters()), "the copy has the same weights in memory")


def made_without_weights(make: Callable[[], nn.Module]) -> nn.Module:
    """A network on the meta device, as `p2pkit check` makes it; a real one where that looks at its own weights."""
    try:
        with torch.device("meta"):
            return make()
    except NotImplementedError:
        return make()
