"""Methods: one without a discriminator, and some that remember."""

import torch
from torch import nn

from p2pkit.training.step import StepContext, discriminator_losses, frozen, generator_losses


class Bare:
    """A loss of its own, and none of the recipe's."""

    networks = ("generator",)

    def __init__(self, generator):
        self.generator = generator

    def on_train_start(self):
        with torch.no_grad():
            for parameter in self.generator.parameters():
                parameter.mul_(0.5)

    def train_step(self, batch, update):
        update("generator", {"l1": (self.generator(batch.source) - batch.target).abs().mean()})


class Idle(Bare):
    """It gives its loss back, as in Lightning."""

    def train_step(self, batch, update):
        return (self.generator(batch.source) - batch.target).abs().mean()


class Regression:
    """The generator alone, against the target."""

    networks = ("generator",)

    def __init__(self, generator, losses):
        self.generator, self.losses = generator, losses

    def train_step(self, batch, update):
        seen = StepContext(batch.source, batch.target, self.generator(batch.source))
        update("generator", generator_losses(self.losses, seen))


class Pooled:
    """The discriminator sees fakes of earlier steps, as CycleGAN's does (Shrivastava et al. 2017, section 2.3)."""

    networks = ("generator", "discriminator")

    def __init__(self, generator, discriminator, losses, size=3):
        self.generator, self.discriminator, self.losses, self.size = generator, discriminator, losses, size
        self.pool = []

    def train_step(self, batch, update):
        fake = self.generator(batch.source)
        old = torch.stack([self.swapped(image) for image in fake.detach()])
        seen = StepContext(batch.source, batch.target, old, self.discriminator)
        update("discriminator", discriminator_losses(self.losses, seen))
        with frozen(self.discriminator):
            seen = StepContext(batch.source, batch.target, fake, self.discriminator)
            update("generator", generator_losses(self.losses, seen))

    def swapped(self, image):
        if len(self.pool) < self.size:
            self.pool.append(image)
            return image
        if torch.rand(()) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        old, self.pool[place] = self.pool[place], image
        return old

    def state_dict(self):
        return {"pool": self.pool}

    def load_state_dict(self, state):
        self.pool = state["pool"]


class Unsaved(Pooled):
    """Its state is not of what a checkpoint takes."""

    def state_dict(self):
        return {"pool": set(self.pool)}


class AsModule(nn.Module):
    """A torch module, which counts in a buffer."""

    networks = ("generator",)

    def __init__(self, generator, losses):
        super().__init__()
        self.generator, self.losses = generator, losses
        self.register_buffer("steps", torch.zeros(()))

    def train_step(self, batch, update):
        self.steps += 1
        seen = StepContext(batch.source, batch.target, self.generator(batch.source))
        terms = generator_losses(self.losses, seen)
        update("generator", {name: term / self.steps for name, term in terms.items()})
