"""The one place that knows how Accelerate optimises: backward, the optimizer's step, zero_grad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from p2pkit.contracts import Terms
from p2pkit.engine.agreement import largest
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
            NotFiniteError: on any process the sum, or the gradient's norm, is infinite or no number; the network has
                not been changed by then.
        """
        if not terms:
            return
        total = torch.stack([term.float() for term in terms.values()]).sum()
        self._refuse_not_finite(network, total, terms)
        optimizer = self.optimizers[network]
        optimizer.zero_grad()
        self._accelerator.backward(total)
        self._check_gradients(network, optimizer, terms)
        optimizer.step()
        for name, term in terms.items():
            self._terms[f"{network}/{name}"] = term.detach().float()

    def _refuse_not_finite(self, network: str, total: Tensor, terms: Terms) -> None:
        finite = bool(total.isfinite())
        if not largest(self._accelerator, [not finite])[0]:
            return
        values = "; this process's share is"
        if not finite:
            values = ": " + ", ".join(f"{name} = {float(term.detach())}" for name, term in terms.items())
        raise NotFiniteError(f"the loss of the {network} is not a finite number{values}")

    def _check_gradients(self, network: str, optimizer: Any, terms: Terms) -> None:
        """Scale the gradients down to the norm that the recipe allows; refuse those that would spoil the weights."""
        limit, scaled = self._settings[network].clip_gradient_norm, self._accelerator.scaler is not None
        if limit is None and scaled:
            return  # the scaler looks for what is not finite itself, and leaves such a step out
        # not accelerator.clip_grad_norm_, which unscales the gradients of every optimizer
        self._accelerator.unscale_gradients(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if not scaled and not norm.isfinite():
            losses = ", ".join(f"{name} = {float(term.detach()):.4g}" for name, term in terms.items())
            raise NotFiniteError(f"the gradient of the {network} is not finite, although its losses are: {losses}")
        if limit is not None:
            clip_grads_with_norm_(parameters, limit, norm)

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
