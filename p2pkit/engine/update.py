"""The one place that knows how Accelerate optimises: backward, the optimizer's step, zero_grad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from p2pkit.contracts import Terms
from p2pkit.engine.schedule import learning_rate_factor
from p2pkit.errors import NotFiniteError
from p2pkit.settings import OptimizerSettings, ScheduleSettings


class Updater:
    """Lowers a network's loss terms with its optimizer (contracts.Update), and keeps what they were."""

    def __init__(
        self,
        accelerator: Accelerator,
        optimizers: Mapping[str, Any],
        settings: Mapping[str, OptimizerSettings],
        schedule: ScheduleSettings,
    ) -> None:
        self.optimizers = optimizers
        self._accelerator, self._settings, self._schedule = accelerator, settings, schedule
        self._terms: dict[str, Tensor] = {}

    def __call__(self, network: str, terms: Terms) -> None:
        """Lower the sum of ``terms`` with the optimizer of ``network``; no terms, no update.

        Raises:
            NotFiniteError: the sum is infinite or no number; nothing has been changed by then.
        """
        if not terms:
            return
        total = torch.stack([term.float() for term in terms.values()]).sum()
        if not total.isfinite():
            values = ", ".join(f"{name} = {float(term.detach())}" for name, term in terms.items())
            raise NotFiniteError(f"the loss of the {network} is not a finite number: {values}")
        optimizer = self.optimizers[network]
        optimizer.zero_grad()
        self._accelerator.backward(total)
        self._clip(network, optimizer)
        optimizer.step()
        for name, term in terms.items():
            self._terms[f"{network}/{name}"] = term.detach().float()

    def _clip(self, network: str, optimizer: Any) -> None:
        limit = self._settings[network].clip_gradient_norm
        if limit is not None:
            # not accelerator.clip_grad_norm_, which unscales the gradients of every optimizer
            self._accelerator.unscale_gradients(optimizer)
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, limit)

    def set_progress(self, progress: float) -> None:
        """Set the learning rates to what the schedule says at ``progress`` (0 to 1)."""
        # not through prepared schedulers, which step once a process
        factor = learning_rate_factor(self._schedule, progress)
        for network, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self._settings[network].lr * factor

    def learning_rates(self) -> Iterator[tuple[str, float]]:
        """The learning rate of each network, as metrics."""
        for network, optimizer in self.optimizers.items():
            yield f"{network}/lr", optimizer.param_groups[0]["lr"]

    def take_terms(self) -> dict[str, Tensor]:
        """The terms of the step that has just been made, by ``network/loss``."""
        terms, self._terms = self._terms, {}
        return terms
