"""A loss and two methods."""

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


class Freehand:
    """Without pairs: fakes that look like targets, and targets that are left as they are."""

    networks = ("generator", "discriminator")

    def __init__(self, generator, discriminator, losses, identity: Annotated[float, Field(ge=0)] = 1.0) -> None:
        self.generator, self.discriminator, self.losses, self.identity = generator, discriminator, losses, identity

    def train_step(self, batch: Batch, update: Update) -> None:
        fake = self.generator(batch.source)
        seen = StepContext(batch.source, batch.target, fake.detach(), self.discriminator)
        update("discriminator", discriminator_losses(self.losses, seen))
        with frozen(self.discriminator):
            terms = generator_losses(self.losses, StepContext(batch.source, batch.target, fake, self.discriminator))
            terms["identity"] = self.identity * (self.generator(batch.target) - batch.target).abs().mean()
            update("generator", terms)
