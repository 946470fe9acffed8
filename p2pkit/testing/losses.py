"""The contract of a loss (contracts.Loss)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.contracts import Batch
from p2pkit.errors import P2PKitError
from p2pkit.testing.checks import ContractViolation, Subject, contract, require
from p2pkit.testing.fixtures import SmallDiscriminator, discriminators, half_mask
from p2pkit.testing.networks import CHANNELS, images, require_no_gradient_without_weight
from p2pkit.training.step import AdaptedLoss, StepContext, frozen

SIDE = 64


@dataclass
class _Trial:
    """A loss with a generator, a discriminator and a batch to be tried on."""

    loss: AdaptedLoss
    generator: nn.Module
    discriminator: SmallDiscriminator
    batch: Batch

    def discriminator_loss(self) -> Tensor | None:
        """The discriminator's term, asked for as methods do: the fake is detached."""
        return self._term("discriminator_loss", self.generator(self.batch.source).detach())

    def generator_loss(self, fake: Tensor) -> Tensor | None:
        """The generator's term, asked for as methods do: the discriminator is frozen."""
        with frozen(self.discriminator):
            return self._term("generator_loss", fake)

    def _term(self, name: str, fake: Tensor) -> Tensor | None:
        source, target, _, mask = vars(self.batch).values()
        term = getattr(self.loss, name)(StepContext(source, target, fake, self.discriminator, mask))
        where = f"with {self.discriminator} and a batch of {len(fake)}"
        if term is None:
            return None
        require(isinstance(term, Tensor) and term.ndim == 0, f"{name} is {_described(term)}, {where}")
        require(term.isfinite(), f"{name} is {float(term.detach()):g}, {where}")
        require(term.requires_grad, f"{name} depends on no trainable weight, {where}")
        found: Tensor = term
        return found


def _described(term: Any) -> str:
    return f"a tensor {list(term.shape)}: take its mean" if isinstance(term, Tensor) else f"a {type(term).__name__}"


def _with_each_form(subject: Subject, check: Callable[[_Trial], None], counts: Sequence[int] = (2,)) -> None:
    """``check`` with every form of a discriminator; a loss may refuse some of them, not all, with a P2PKitError."""
    loss = AdaptedLoss.of(subject.make(**CHANNELS[0]))
    source, target = (subject.supplied(name, value) for name, value in CHANNELS[0].items())
    refusals, forms = [], discriminators(source + target)
    for discriminator in forms:
        try:
            for count in counts:
                sides = images(source, SIDE, SIDE, count), images(target, SIDE, SIDE, count, seed=1)
                generator = nn.Conv2d(source, target, 3, padding=1)
                check(_Trial(loss, generator, discriminator, Batch(*sides, ["key"] * count)))
        except P2PKitError as error:
            refusals.append(error)
    if len(refusals) == len(forms):
        raise ContractViolation(f"it refuses every discriminator: {refusals[0]}")


@contract("it gives finite scalars, for the generator, the discriminator or both, and None where it has no term")
def gives_terms(subject: Subject) -> None:
    """Terms with discriminators of one scale and several, with features and without, for one image and several."""

    def check(trial: _Trial) -> None:
        terms = trial.discriminator_loss(), trial.generator_loss(trial.generator(trial.batch.source))
        require(any(term is not None for term in terms), f"None for both, with {trial.discriminator}")

    _with_each_form(subject, check, counts=(2, 1))


@contract("the gradient of the generator's term reaches the fake")
def has_gradients_for_the_generator(subject: Subject) -> None:
    """The generator can lower it."""

    def check(trial: _Trial) -> None:
        fake = trial.generator(trial.batch.source).detach().requires_grad_()
        term = trial.generator_loss(fake)
        if term is not None:
            term.backward()  # type: ignore[no-untyped-call]
            _require_gradient([fake], f"of the fake, with {trial.discriminator}")

    _with_each_form(subject, check)


@contract("the gradient of the discriminator's term reaches the discriminator, and never the generator")
def has_gradients_for_the_discriminator(subject: Subject) -> None:
    """Two steps, since what a loss keeps of the first might reach the generator in the second."""

    def check(trial: _Trial) -> None:
        for _ in range(2):
            trial.discriminator.zero_grad()
            trial.generator.zero_grad()
            term = trial.discriminator_loss()
            if term is None:
                return
            term.backward()  # type: ignore[no-untyped-call]
            _require_gradient(list(trial.discriminator.parameters()), f"of the weights of {trial.discriminator}")
            reached = any(each.grad is not None and each.grad.any() for each in trial.generator.parameters())
            require(not reached, "the generator gets a gradient; keep no fake from one step to the next undetached")
            trial.generator_loss(trial.generator(trial.batch.source))

    _with_each_form(subject, check)


def _require_gradient(of: list[Any], described: str) -> None:
    gradients = [each.grad for each in of if each.grad is not None]
    require(any(gradient.any() for gradient in gradients), f"no gradient {described}")
    require(all(gradient.isfinite().all() for gradient in gradients), f"a gradient that is not finite {described}")


@contract("its gradient is finite beside a mask, and 0 where the mask is 0: there the fake is the target")
def learns_nothing_without_weight(subject: Subject) -> None:
    """Half of each image does not count."""

    def check(trial: _Trial) -> None:
        trial.batch.mask = half_mask(len(trial.batch.target), SIDE, SIDE)
        trial.discriminator_loss()
        fake = trial.generator(trial.batch.source).detach().requires_grad_()
        if (term := trial.generator_loss(fake)) is not None:
            term.backward()  # type: ignore[no-untyped-call]
            require_no_gradient_without_weight(fake.grad, trial.batch.mask, f", with {trial.discriminator}")

    _with_each_form(subject, check)


@contract("equal steps have equal terms: it keeps no state that a resumed run lacks, and changes no image")
def repeats_itself(subject: Subject) -> None:
    """Two equal steps with one seed."""

    def check(trial: _Trial) -> None:
        before = trial.batch.source.clone(), trial.batch.target.clone()
        found = []
        for _ in range(2):
            set_seed(1)
            fake = trial.generator(trial.batch.source)
            drawn = fake.detach().clone()
            found.append([trial.discriminator_loss(), trial.generator_loss(fake)])
            same = torch.equal(before[0], trial.batch.source) and torch.equal(before[1], trial.batch.target)
            require(same and torch.equal(drawn, fake), "it has changed the source, the target or the fake in place")
        for first, second in zip(*found, strict=True):
            same = first is second is None or (first is not None and second is not None and torch.equal(first, second))
            require(same, f"{_value(first)}, then {_value(second)}, with {trial.discriminator}")

    _with_each_form(subject, check)


def _value(term: Tensor | None) -> str:
    return "None" if term is None else f"{float(term.detach()):.6g}"


CHECKS = (
    gives_terms, has_gradients_for_the_generator, has_gradients_for_the_discriminator, learns_nothing_without_weight,
    repeats_itself,
)  # fmt: skip
