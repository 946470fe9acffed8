"""Methods that break their contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from p2pkit.contracts import Batch, Terms, Update, WeightedLoss
from p2pkit.testing import methods
from p2pkit.training.step import StepContext, discriminator_losses, frozen, generator_losses
from tests.broken import Broken


class Good:
    """A method as it should be."""

    networks: Any = ("generator", "discriminator")

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: Sequence[WeightedLoss]) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses

    def train_step(self, batch: Batch, update: Update) -> None:
        fake, sides = self.generator(batch.source), (batch.source, batch.target)
        self.train_discriminator(StepContext(*sides, fake.detach(), self.discriminator, batch.mask), update)
        with frozen(self.discriminator):
            seen = StepContext(*sides, fake, self.discriminator, batch.mask)
            update("generator", self.generator_terms(fake, seen))

    def generator_terms(self, fake: torch.Tensor, seen: StepContext) -> Terms:
        return generator_losses(self.losses, seen)

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        update("discriminator", discriminator_losses(self.losses, seen))


class OneWord(Good):
    """A method whose networks are a word."""

    networks = "generator"


class Nameless(Good):
    """A method that names a network that it has not."""

    networks = ("generator", "encoder")


class Frozen(Good):
    """A method that names a network that nothing can train."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: Sequence[WeightedLoss]) -> None:
        super().__init__(generator, discriminator.requires_grad_(False), losses)


class KeepsNoLosses(Good):
    """A method that keeps its losses to itself."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: Sequence[WeightedLoss]) -> None:
        super().__init__(generator, discriminator, losses)
        del self.losses


class HalfImages(Good):
    """A method whose generator gives images of half the size."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: Sequence[WeightedLoss]) -> None:
        super().__init__(nn.Sequential(generator, nn.AvgPool2d(2)), discriminator, losses)


class Vector(Good):
    """A method that gives a term for each image."""

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        update("discriminator", {"each": seen.pred_fake.logits[0].mean(dim=(1, 2, 3))})


class NotFinite(Good):
    """A method that divides by zero."""

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        update("discriminator", {"quotient": seen.pred_fake.logits[0].mean() / 0})


class Detached(Good):
    """A method that gives a term that nothing can lower."""

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        update("discriminator", {"number": seen.pred_fake.logits[0].mean().detach()})


class ByItself(Good):
    """A method that changes weights by itself."""

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        super().train_discriminator(seen, update)
        with torch.no_grad():
            for parameter in self.discriminator.parameters():
                parameter.mul_(0.99)


class Idle(Good):
    """A method that does nothing."""

    def train_step(self, batch: Batch, update: Update) -> None:
        return None


class UnknownNetwork(Good):
    """A method that updates what it has not named."""

    networks = ("generator",)


class Untrained(Good):
    """A method that forgets the discriminator."""

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        return None


class AroundTheWrapper(Good):
    """A method that calls the discriminator as it was before the engine wrapped it."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: Sequence[WeightedLoss]) -> None:
        super().__init__(generator, discriminator, losses)
        self.own = discriminator

    def train_step(self, batch: Batch, update: Update) -> None:
        self.discriminator, wrapped = self.own, self.discriminator
        super().train_step(batch, update)
        self.discriminator = wrapped


class OutputItself(Good):
    """A method with a term of the output in place of what losses see."""

    def generator_terms(self, fake: torch.Tensor, seen: StepContext) -> Terms:
        return {**super().generator_terms(fake, seen), "gray": fake.square().mean()}


class Warming(Good):
    """A method whose discriminator learns more from step to step, by a count that no checkpoint has."""

    steps = 0

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        self.steps += 1
        penalty = self.steps * torch.stack([each.square().sum() for each in self.discriminator.parameters()]).sum()
        update("discriminator", {**discriminator_losses(self.losses, seen), "penalty": penalty})


class Forgetful(Good):
    """A method that shows the discriminator a fake of the step before, which no checkpoint has."""

    last: torch.Tensor | None = None

    def train_discriminator(self, seen: StepContext, update: Update) -> None:
        image, self.last = seen.fake if self.last is None else self.last, seen.fake
        super().train_discriminator(StepContext(seen.source, seen.target, image, self.discriminator), update)


BROKEN = [
    Broken("methods", check, factory, found)
    for check, factory, found in (
        (methods.names_its_networks, OneWord, "networks = 'generator'"),
        (methods.names_its_networks, Nameless, "encoder is NoneType"),
        (methods.names_its_networks, Frozen, "discriminator has no parameter to train"),
        (methods.names_its_networks, KeepsNoLosses, "no attribute `losses`"),
        (methods.names_its_networks, HalfImages, "its generator gives [2, 3, 32, 32]"),
        (methods.leaves_weights_to_the_engine, Vector, "the term 'each' of ['discriminator'] is not a scalar"),
        (methods.leaves_weights_to_the_engine, NotFinite, "the term 'quotient' of ['discriminator'] is "),
        (
            methods.leaves_weights_to_the_engine,
            Detached,
            "the term 'number' of ['discriminator'] depends on no trainable",
        ),
        (methods.leaves_weights_to_the_engine, ByItself, "changed the weights of discriminator"),
        (methods.leaves_weights_to_the_engine, Idle, "without a call of update"),
        (methods.leaves_weights_to_the_engine, UnknownNetwork, "an update of ['discriminator']"),
        (methods.trains_its_networks, Untrained, "the weights of discriminator have not changed"),
        (methods.trains_its_networks, AroundTheWrapper, "discriminator was not called through"),
        (methods.learns_nothing_without_weight, OutputItself, "values of the output have a gradient where the mask"),
        (methods.resumes_exactly, Forgetful, "other weights of generator after resuming"),
        (methods.resumes_exactly, Warming, "other weights of generator after resuming"),
    )
]
