"""Losses that break their contract."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from p2pkit.contracts import Step
from p2pkit.errors import P2PKitError
from p2pkit.testing import losses
from tests.broken import Broken


class Good:
    """A loss as it should be, for both."""

    def generator_loss(self, step: Step) -> Any:
        return F.l1_loss(step.fake, step.target) - step.pred_fake.logits[0].mean()

    def discriminator_loss(self, step: Step) -> Any:
        return (step.pred_fake.logits[0] - step.pred_real.logits[0]).square().mean()


class NoLoss:
    """Neither an object with a term nor a function."""


class PerImage(Good):
    """A loss that gives a number for each image."""

    def generator_loss(self, step: Step) -> Tensor:
        return (step.fake - step.target).abs().mean(dim=(1, 2, 3))


class PlainNumber(Good):
    """A loss that gives a number of Python."""

    def generator_loss(self, step: Step) -> float:
        return float((step.fake.detach() - step.target).abs().mean())


class NotFinite(Good):
    """A loss that is the logarithm of something negative."""

    def generator_loss(self, step: Step) -> Tensor:
        return torch.log(-(step.fake - step.target).abs().mean())


class Nothing(Good):
    """A loss without terms."""

    def generator_loss(self, step: Step) -> None:
        return None

    def discriminator_loss(self, step: Step) -> None:
        return None


class Constant(Good):
    """A loss that does not see the fake."""

    def generator_loss(self, step: Step) -> Tensor:
        return step.target.mean()


class VarianceOfBatch(Good):
    """A loss that cannot be computed of one image: a variance over the batch."""

    def generator_loss(self, step: Step) -> Tensor:
        return (step.fake - step.fake.mean(dim=0)).square().sum() / (len(step.fake) - 1)


class Picky(Good):
    """A loss that no discriminator pleases."""

    def discriminator_loss(self, step: Step) -> Tensor:
        raise P2PKitError("it needs another discriminator")


class FlatForTheFake(Good):
    """A loss whose gradient is zero at every fake."""

    def generator_loss(self, step: Step) -> Tensor:
        return (step.fake * 0).mean()


class SharpCorner(Good):
    """A loss whose gradient is infinite where it is zero."""

    def generator_loss(self, step: Step) -> Tensor:
        return (step.fake - step.fake.detach()).square().sum().sqrt()


class FlatForTheDiscriminator(Good):
    """A loss whose gradient is zero at every discriminator."""

    def discriminator_loss(self, step: Step) -> Tensor:
        return (step.pred_fake.logits[0] * 0).mean()


class Remembering(Good):
    """A loss that shows the discriminator the last step's fake, with its graph."""

    last: Tensor | None = None

    def generator_loss(self, step: Step) -> Tensor:
        self.last = step.fake
        return super().generator_loss(step)

    def discriminator_loss(self, step: Step) -> Tensor:
        image = self.last if self.last is not None and len(self.last) == len(step.fake) else step.fake
        return step.discriminate(image).logits[0].square().mean()


class RootOfEachPixel(Good):
    """A loss whose gradient is not finite where output and target are equal."""

    def generator_loss(self, step: Step) -> Tensor:
        return (step.fake - step.target).square().sum(dim=1).sqrt().mean()


class Counting(Good):
    """A loss that weighs more from step to step."""

    steps = 0

    def discriminator_loss(self, step: Step) -> Tensor:
        self.steps += 1
        return super().discriminator_loss(step) * self.steps


class InPlace(Good):
    """A loss that changes the target."""

    def generator_loss(self, step: Step) -> Tensor:
        step.target.mul_(0.5)
        return super().generator_loss(step)


BROKEN = [
    Broken("losses", check, factory, found)
    for check, factory, found in (
        (
            losses.gives_terms,
            NoLoss,
            "NoLoss has neither generator_loss(step) nor discriminator_loss(step), and is",
        ),
        (losses.gives_terms, PerImage, "generator_loss is a tensor [2]"),
        (losses.gives_terms, PlainNumber, "generator_loss is a float"),
        (losses.gives_terms, NotFinite, "generator_loss is nan"),
        (losses.gives_terms, Nothing, "None for both"),
        (losses.gives_terms, Constant, "generator_loss depends on no trainable weight"),
        (losses.gives_terms, VarianceOfBatch, "a batch of 1"),
        (losses.gives_terms, Picky, "it refuses every discriminator: it needs another discriminator"),
        (losses.has_gradients_for_the_generator, FlatForTheFake, "no gradient of the fake"),
        (losses.has_gradients_for_the_generator, SharpCorner, "a gradient that is not finite of the fake"),
        (losses.has_gradients_for_the_discriminator, FlatForTheDiscriminator, "no gradient of the weights"),
        (losses.has_gradients_for_the_discriminator, Remembering, "the generator gets a gradient"),
        (losses.learns_nothing_without_weight, RootOfEachPixel, "a gradient of the output that is not finite"),
        (losses.repeats_itself, Counting, "1 scale(s) without features"),
        (losses.repeats_itself, InPlace, "in place"),
    )
]
