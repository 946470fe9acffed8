"""pix2pix (Isola et al. 2017): a conditional GAN with a distance between pixels beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from p2pkit.contracts import Batch, Terms, Update, WeightedLoss
from p2pkit.training.step import StepContext, activations_before, discriminator_losses, frozen, generator_losses


@dataclass(eq=False)
class Pix2Pix:
    """One update of the discriminator, then one of the generator against the updated discriminator (section 3.3).

    No noise vector goes in: noise is the generator's dropout.

    Args:
        activations: of the discriminator, for the generator's losses: those after its update in the same step, or as
            in the paper's Lua code those from before it. Gradients go through the updated weights in either case.
    """

    networks = ("generator", "discriminator")

    generator: nn.Module
    discriminator: nn.Module
    losses: Sequence[WeightedLoss]
    activations: Literal["updated", "before_update"] = "updated"

    def train_step(self, batch: Batch, update: Update) -> None:
        """One step on one batch. Fakes of parts of it are made twice, since all of them would not be held at once."""
        whole = self.generator(batch.source) if update.accumulate == 1 else None
        before = None
        if self.activations == "before_update":
            before = list(map(torch.clone, self.discriminator.parameters()))

        def for_discriminator(part: Batch) -> Terms:
            with torch.no_grad():
                fake = self.generator(part.source) if whole is None else whole.detach()
            seen = StepContext(part.source, part.target, fake, self.discriminator, part.mask)
            return discriminator_losses(self.losses, seen)

        def for_generator(part: Batch) -> Terms:
            fake = self.generator(part.source) if whole is None else whole
            seen = StepContext(part.source, part.target, fake, self.discriminator, part.mask)
            if before is None:
                return generator_losses(self.losses, seen)
            with activations_before(self.discriminator, before):
                return generator_losses(self.losses, seen)

        update("discriminator", for_discriminator)
        with frozen(self.discriminator):
            update("generator", for_generator)
