"""The one place that knows how Accelerate optimises: backward, the optimizer's step, zero_grad."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from p2pkit.contracts import Batch, Method, Terms, TermsOfPart
from p2pkit.distributed.collectives import all_reduce_max
from p2pkit.errors import NotFiniteError, RecipeError
from p2pkit.run_contracts import Position, Schedule
from p2pkit.training.step import DiscriminatorTerms
from p2pkit.utils.seeds import derived

if TYPE_CHECKING:
    from p2pkit.training.finite import DeferredChecks


def parts_of(batch: Batch, count: int, seed: int) -> Iterator[Batch]:
    """Cut a batch into ``count`` parts of one size; before each of several, all that is drawn is seeded anew."""
    size = len(batch.keys) // count
    for index in range(count):
        if count > 1:
            set_seed(derived(seed, "part", index) % 2**32)
        own = slice(index * size, (index + 1) * size)
        mask = None if batch.mask is None else batch.mask[own]
        yield Batch(batch.source[own], batch.target[own], batch.keys[own], mask)


def refuse_loss(accelerator: Accelerator, networks: Sequence[str], total: Tensor, terms: Mapping[str, Tensor]) -> None:
    """Raise NotFiniteError where ``total``, the sum of ``terms``, is NaN or infinite on any process; all call it."""
    finite = bool(total.isfinite())
    if not all_reduce_max(accelerator, [not finite])[0]:
        return
    values = "; this process's share is"
    if not finite:
        values = ": " + ", ".join(f"{name} = {float(term.detach())}" for name, term in terms.items())
    raise NotFiniteError(f"the loss of the {' and the '.join(networks)} is not a finite number{values}")


def refuse_gradient(network: str, norm: Tensor, terms: Mapping[str, Tensor]) -> None:
    """Raise NotFiniteError where the ``norm`` of a network's gradient is NaN or infinite."""
    if not norm.isfinite():
        losses = ", ".join(f"{name} = {float(term.detach()):.4g}" for name, term in terms.items())
        raise NotFiniteError(f"the gradient of the {network} is not finite, although its losses are: {losses}")


@dataclass(frozen=True)
class PendingUpdate:
    """An update whose numbers nobody has looked at."""

    step: int
    """Steps that had been made before its own."""
    progress: float
    """How far the run was."""
    keys: Sequence[str]
    """The samples of this process's share of the batch."""
    networks: Sequence[str]
    terms: Mapping[str, Tensor]
    total: Tensor
    norms: Mapping[str, Tensor]
    """Of each network's gradient, as all processes have it."""

    def refuse(self, accelerator: Accelerator) -> NoReturn:
        """Raise the NotFiniteError that a look before the update would have raised; every process calls it."""
        refuse_loss(accelerator, self.networks, self.total, self.terms)
        for network, norm in self.norms.items():
            refuse_gradient(network, norm, self.terms)
        raise NotFiniteError(f"a gradient of the {' and the '.join(self.networks)} is not finite on another process")


@dataclass
class Updater:
    """Lowers a network's loss terms with its optimizer (contracts.Update), and keeps what they were."""

    accelerator: Accelerator
    optimizers: Mapping[str, Any]
    clip_gradient_norm: Mapping[str, float | None]
    schedule: Schedule
    warmup: int
    """Steps over which the learning rates rise to what the schedule says."""
    method: Method | None = None
    """It has the networks as it calls them."""
    accumulate: int = 1
    rates: dict[str, list[float]] = field(default_factory=dict)
    """The learning rate of each group of each optimizer, as the optimizer was made."""
    checks: DeferredChecks | None = None
    """Looks at the numbers of updates on the device; None to look at them before each."""
    step: int = 0
    """Steps that have been made."""
    progress: float = 0.0
    """How far the run is, from 0 to 1."""
    batch: Batch = field(init=False)
    """This process's share of the step's batch, on its device."""
    seed: int = 0
    """Of this step on this process."""
    _terms: dict[str, Tensor] = field(default_factory=dict)

    def __call__(
        self, networks: str | Sequence[str], terms: Terms | TermsOfPart, fixed: Iterable[nn.Parameter] = ()
    ) -> None:
        """Lower the sum of ``terms`` with the optimizers of one network or several, but for the ``fixed`` parameters.

        Raises:
            RecipeError: a loss on gradients meets a network that has no second derivative.
            NotFiniteError: on any process the sum, or a gradient's norm, is infinite or NaN; no network of these
                has been changed by then. Not with ``checks``, which leave this update out and all after it.
        """
        names = [networks] if isinstance(networks, str) else list(networks)
        if self.accumulate > 1:
            terms = self._accumulate(names, terms)
        elif callable(terms):
            terms = terms(self.batch)
        if not terms:
            return
        total = torch.stack(list(map(Tensor.float, terms.values()))).sum()
        if self.checks is None:
            refuse_loss(self.accelerator, names, total, terms)
        if self.accumulate == 1:
            for name in names:
                self.optimizers[name].zero_grad()
            self._backward(total, terms)
        for parameter in fixed:
            # only now, since DistributedDataParallel waits for all gradients; optimizers pass over what has none
            parameter.grad = None
        self._check_gradients(names, total, terms)
        scaler = self.accelerator.scaler
        for name in names:
            if scaler is None:
                self.optimizers[name].step()
            else:
                # not by Accelerate's own optimizers, each of which would move the scale that the next one's gradients
                # are in
                scaler.step(self.optimizers[name].optimizer)
        if scaler is not None:
            scaler.update()
        for name, term in {**terms, **getattr(terms, "accuracy", {})}.items():
            self._terms[f"{names[0]}/{name}"] = term.detach().float()

    def _accumulate(self, names: Sequence[str], terms: Terms | TermsOfPart) -> Terms:
        """Collect the gradients of the parts of the batch; the means of their terms."""
        assert callable(terms), "the trial before a run has refused a method that passes terms"
        for name in names:
            self.optimizers[name].zero_grad()
        means, accuracy = DiscriminatorTerms(), dict[str, Tensor]()
        for index, part in enumerate(parts_of(self.batch, self.accumulate, self.seed)):
            with ExitStack() as stack:
                for name in names if index < self.accumulate - 1 else ():
                    # the processes' gradients are shared once, with the last part's
                    stack.enter_context(self.accelerator.no_sync(getattr(self.method, name)))
                own = terms(part)
                if own:
                    mean = torch.stack(list(map(Tensor.float, own.values()))).sum() / self.accumulate
                    self._backward(mean, own)
            for found, parts in ((means, own), (accuracy, getattr(own, "accuracy", {}))):
                for name, term in parts.items():
                    found[name] = found.get(name, torch.zeros_like(term)) + term.detach() / self.accumulate
        means.accuracy = accuracy
        return means

    def _backward(self, total: Tensor, terms: Terms) -> None:
        try:
            self.accelerator.backward(total)
        except RuntimeError as error:
            lacking = re.search(r"derivative for (\S+)_backward is not implemented", str(error))
            if lacking is None:
                raise
            raise RecipeError(
                f"losses: one of {', '.join(terms)} is taken of gradients, and PyTorch has no second derivative of "
                f"{lacking[1]}, which the network that they go through is made of. Choose another network (another "
                "discriminator.backbone, say), or leave that loss out"
            ) from error

    def _check_gradients(self, networks: Sequence[str], total: Tensor, terms: Terms) -> None:
        """Scale the gradients down to the norms that the recipe allows; refuse those that would spoil the weights."""
        norms = dict(self._gradient_norms(networks))
        if self.checks is not None:
            known, keys = {name: term.detach() for name, term in terms.items()}, self.batch.keys
            update = PendingUpdate(self.step, self.progress, keys, networks, known, total.detach(), norms)
            self.checks.add(update)
        elif self.accelerator.scaler is None:
            for name, norm in norms.items():
                refuse_gradient(name, norm, terms)
        for name, norm in norms.items():
            limit = self.clip_gradient_norm[name]
            if limit is not None:
                clip_grads_with_norm_(self._parameters(name), limit, norm)

    def _gradient_norms(self, networks: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """The norm of each network's gradient, where it is of use."""
        for name in networks:
            if self.clip_gradient_norm[name] is None and self.accelerator.scaler is not None:
                continue  # the scaler looks for what is not finite itself, and leaves such a step out
            # not accelerator.clip_grad_norm_, which unscales the gradients of every optimizer
            self.accelerator.unscale_gradients(self.optimizers[name])
            gradients = list(filter(torch.is_tensor, map(attrgetter("grad"), self._parameters(name))))
            # torch's norm of nothing is on the CPU
            yield name, get_total_norm(gradients) if gradients else torch.zeros((), device=self.accelerator.device)

    def _parameters(self, network: str) -> list[nn.Parameter]:
        return list(chain.from_iterable(map(itemgetter("params"), self.optimizers[network].param_groups)))

    def set_position(self, position: Position) -> None:
        """Take note of how far the run is, and set the learning rates to what the schedule says there.

        Raises:
            RecipeError: the schedule gives what no rate can be multiplied by.
        """
        self.step, self.progress, factor = position.step, position.progress, self.schedule(position)
        if not 0 <= factor < math.inf:
            raise RecipeError(f"the schedule gives {factor!r} at step {position.step}, expected a number of at least 0")
        if position.step < self.warmup:
            factor *= (position.step + 1) / self.warmup
        # not through prepared schedulers, which step once a process
        for network, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.rates[network], strict=True):
                group["lr"] = rate * factor

    def learning_rates(self) -> Iterator[tuple[str, float]]:
        """The learning rate of each network, as metrics."""
        for network, optimizer in self.optimizers.items():
            yield f"{network}/lr", optimizer.param_groups[0]["lr"]

    def take_terms(self) -> dict[str, Tensor]:
        """The terms of the step that has just been made, by ``network/loss``."""
        terms, self._terms = self._terms, {}
        return terms
