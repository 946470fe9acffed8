"""A loss and a method."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from p2pkit.contracts import Batch, Step, Update
from p2pkit.training.step import StepContext, discriminator_losses, frozen, generator_losses


class Contrast:
    """The difference in contrast, raised to a power."""

    def __init__(self, power: Annotated[int, Field(gt=0)] = 1) -> None:
        self.power = power

    def generator_loss(self, step: Step) -> Tensor:
        return (step.fake.std() - step.target.std()).abs() ** self.power

    def discriminator_loss(self, step: Step) -> None:
        return None


class Alternating:
    """Discriminator and generator, the latter ``strokes`` times."""

    networks = ("generator", "discriminator")

    def __init__(self, generator, discriminator, losses, strokes: Annotated[int, Field(gt=0)] = 2) -> None:
        self.generator, self.discriminator, self.losses, self.strokes = generator, discriminator, losses, strokes

    def train_step(self, batch: Batch, update: Update) -> None:
        fake = self.generator(batch.source).detach()
        update("discriminator", discriminator_losses(self.losses, self._view(batch, fake)))
        for _ in range(self.strokes):
            with frozen(self.discriminator):
                seen = self._view(batch, self.generator(batch.source))
                update("generator", generator_losses(self.losses, seen))

    def _view(self, batch: Batch, fake: Tensor) -> StepContext:
        return StepContext(batch.source, batch.target, fake, self.discriminator)
