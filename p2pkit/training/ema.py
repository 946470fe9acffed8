"""The exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """torch's AveragedModel, which a step that is left out on the device does not move.

    Args:
        network: what is averaged; it begins with a copy of it.
        decay: how much of the average stays in a step.
        device: where both are.
    """

    def __init__(self, network: nn.Module, decay: float, device: torch.device) -> None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        super().__init__(network, device=device, multi_avg_fn=average)
        self.decay = decay
        self.left_out: Tensor | None = None
        """On the device, 1.0 while steps are left out and 0.0 before (finite.DeferredChecks); None where none is."""
        self._begun = False

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights of ``model`` after a step."""
        if self.left_out is None:
            super().update_parameters(model)
            return
        self._begun = self._begun or bool(self.n_averaged)  # read once, since that waits for the device
        if not self._begun:
            super().update_parameters(model)
            self._begun = True
            return
        weight = (1 - self.decay) * (1 - self.left_out)
        pairs = zip(self.module.parameters(), model.parameters(), strict=True)
        # what is not a floating-point number has no gradient, and is as it was copied
        averages, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averages, weights, [weight.to(average.dtype) for average in averages])
        for own, new in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(new)
        self.n_averaged.add_(1)
