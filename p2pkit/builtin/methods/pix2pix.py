"""pix2pix (Isola et al. 2017): a conditional GAN with a distance between pixels beside it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from p2pkit.contracts import Batch, Update, WeightedLoss
from p2pkit.training.step import StepContext, discriminator_losses, frozen, generator_losses


class Pix2Pix:
    """One update of the discriminator, then one of the generator against the updated discriminator (section 3.3).

    No noise vector goes in: noise is the generator's dropout.
    """

    networks = ("generator", "discriminator")

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: Sequence[WeightedLoss]) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses

    def train_step(self, batch: Batch, update: Update) -> None:
        """One step on one batch."""
        fake = self.generator(batch.source)
        seen = StepContext(batch.source, batch.target, fake.detach(), self.discriminator)
        update("discriminator", discriminator_losses(self.losses, seen))
        with frozen(self.discriminator):
            seen = StepContext(batch.source, batch.target, fake, self.discriminator)
            update("generator", generator_losses(self.losses, seen))
