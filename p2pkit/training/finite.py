"""Whether losses and gradients are finite: looked at before each update, or by the device, and read later.

A CPU looks at once. A GPU would have to be waited for, so there the steps go on: from the first update with numbers
that are not finite nothing moves any more, and which one it was is read where the device is waited for anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from p2pkit.training.checkpoint import Trained
from p2pkit.training.ema import MovingAverage
from p2pkit.training.update import PendingUpdate

DEFERRED_ON = frozenset({"cuda"})
"""Devices that work behind the program, and whose fused optimizers leave a step out by a number on the device."""
MOST_PENDING = 256
"""Updates after which they are looked at, however long it is until a line of metrics."""


class DeferredChecks:
    """Looks at updates on the device, and leaves all out from the first on whose numbers are not finite.

    Weights and moments stay as they are, by the optimizers' ``found_inf``, and so does the EMA. Buffers move on, and
    are put back when the program learns of it.
    """

    def __init__(self, accelerator: Accelerator, trained: Trained) -> None:
        self.accelerator = accelerator
        self.left_out = torch.zeros((), device=accelerator.device)
        """1.0 from that update on, 0.0 before."""
        self._taken = torch.zeros((), device=accelerator.device)
        """How many of the pending updates came before it."""
        self.pending: list[PendingUpdate] = []
        """Updates that nobody has looked at; those of a replayed step are put there by what replays it."""
        self._buffers = [*_grouped(trained.networks.values(), accelerator.device)]
        for optimizer in trained.optimizers.values():
            optimizer.optimizer.found_inf = self.left_out
        for network in trained.networks.values():
            if isinstance(network, MovingAverage):
                network.left_out = self.left_out

    def __len__(self) -> int:
        return len(self.pending)

    @torch.no_grad()
    def add(self, update: PendingUpdate) -> None:
        """Look at an update that is about to be made, without waiting; every process has the same ones."""
        self.pending.append(update)
        bad = torch.stack([update.total, *update.norms.values()]).isfinite().all().logical_not().float()
        if self.accelerator.num_processes > 1:
            bad = self.accelerator.reduce(bad)
        for buffers in self._buffers:
            buffers.keep_unless(self.left_out)
        self.left_out.add_(bad).clamp_(max=1.0)
        self._taken.add_(1 - self.left_out)

    @torch.no_grad()
    def first_not_finite(self) -> PendingUpdate | None:
        """The first update since the last look that was left out; the networks are as they were just before it.

        Waits for the device, unless nothing has been added since.
        """
        if not self.pending:
            return None
        left_out, taken = torch.stack([self.left_out, self._taken]).tolist()
        if left_out:
            for buffers in self._buffers:
                buffers.put_back()
            return self.pending[int(taken)]
        self.pending = []
        self._taken.zero_()
        return None


def deferred_checks(accelerator: Accelerator, trained: Trained) -> DeferredChecks | None:
    """What looks at updates on the device of ``accelerator``; None where the program looks before each of them.

    That is in fp16, whose scaler leaves steps out by itself, and with optimizers that cannot leave one out by a number
    on the device.
    """
    optimizers = [optimizer.optimizer for optimizer in trained.optimizers.values()]
    deferred = accelerator.scaler is None and all(map(_takes_found_inf, optimizers))
    return DeferredChecks(accelerator, trained) if deferred else None


def _takes_found_inf(optimizer: Any) -> bool:
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and type(optimizer) in (Adam, AdamW, SGD)


def _grouped(networks: Iterable[nn.Module], device: torch.device) -> Iterator[_Buffers]:
    """The buffers of all networks on the device, each once, by their type."""
    places: dict[int, tuple[dict[str, Any], str]] = {}
    for network in networks:
        for module in network.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.device.type == device.type:
                    places.setdefault(id(buffer), (module._buffers, name))
    for dtype in dict.fromkeys(held[name].dtype for held, name in places.values()):
        yield _Buffers([(held, name) for held, name in places.values() if held[name].dtype == dtype])


class _Buffers:
    """Buffers of one type, by the dicts that modules have them in, and two copies: as they are, and as they were.

    The copies lie in one tensor each, so that one operation chooses between them.
    """

    def __init__(self, places: Sequence[tuple[dict[str, Any], str]]) -> None:
        self._places = places
        tensors = self._tensors()
        shapes, sizes = [tensor.shape for tensor in tensors], [tensor.numel() for tensor in tensors]
        self._now, self._kept = (tensors[0].new_empty(sum(sizes)) for _ in range(2))
        self._parts_now, self._parts_kept = (
            [part.view(shape) for part, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
            for flat in (self._now, self._kept)
        )

    def _tensors(self) -> list[Tensor]:
        return [held[name] for held, name in self._places]  # looked up, since a module may have put another one there

    def keep_unless(self, left_out: Tensor) -> None:
        """Keep the buffers as they are now, or where ``left_out`` is not 0 as they were kept before."""
        torch._foreach_copy_(self._parts_now, self._tensors())
        torch.where(left_out.bool(), self._kept, self._now, out=self._kept)

    def put_back(self) -> None:
        """Make the buffers what was kept."""
        torch._foreach_copy_(self._tensors(), self._parts_kept)
