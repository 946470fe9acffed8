"""pix2pixHD's training: the coarse part of the generator first, then all of it (Wang et al. 2018, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import nn

import p2pkit
from p2pkit.contracts import Batch, Update, WeightedLoss
from p2pkit.errors import RecipeError
from p2pkit.training.step import StepContext, discriminator_losses, frozen, generator_losses, unwrap_model
from p2pkit_hd.generator import EnhancedTrunk, GlobalTrunk, HDGenerator


class Pix2PixHD:
    """One update of the generator, then one of the discriminator on the same fakes.

    hd_local can begin with what an earlier run has trained: all of it but for the last enhancer and the output layer
    takes the weights of a ``coarse_model``, and stays as it is until the new layers have found their place. A run that
    is resumed has its weights from its checkpoint, and does not read that file again.

    Args:
        coarse_model: the model file of the earlier run, or its folder.
        fixed_until: the part of the run, from 0 to 1, in which the coarse part is frozen.
    """

    networks = ("generator", "discriminator")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        losses: Sequence[WeightedLoss],
        coarse_model: Path | None = None,
        fixed_until: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses
        self.coarse_model, self.fixed_until = coarse_model, fixed_until
        if fixed_until and coarse_model is None:
            raise RecipeError(
                f"method.fixed_until = {fixed_until}: this keeps the coarse part of the generator as an earlier run "
                "has trained it; give that run's model file, method.coarse_model = PATH"
            )
        if coarse_model is not None:
            self._coarse_part()

    def on_train_start(self) -> None:
        """Take the weights of the coarse part from the earlier run.

        Raises:
            ModelFileError: the file is missing or damaged.
            RecipeError: it holds another network.
        """
        if self.coarse_model is None:
            return
        part, given = self._coarse_part(), unwrap_model(p2pkit.load_model(self.coarse_model, "cpu").generator)
        trunk = given.trunk if isinstance(given, HDGenerator) else None
        if trunk is None or trunk.settings != part.settings:
            held = f"a {type(given).__name__}" if trunk is None else f"{trunk.settings}"
            raise RecipeError(f"method.coarse_model: {self.coarse_model} holds {held}; expected {part.settings}")
        part.load_state_dict(trunk.state_dict())

    def train_step(self, batch: Batch, update: Update) -> None:
        """One step on one batch."""
        fake = self.generator(batch.source)
        with frozen(self.discriminator):
            seen = StepContext(batch.source, batch.target, fake, self.discriminator, batch.mask)
            update("generator", generator_losses(self.losses, seen), self._fixed(update.progress))
        seen = StepContext(batch.source, batch.target, fake.detach(), self.discriminator, batch.mask)
        update("discriminator", discriminator_losses(self.losses, seen))

    def _fixed(self, progress: float) -> Iterable[nn.Parameter]:
        return self._coarse_part().parameters() if progress < self.fixed_until else ()

    def _coarse_part(self) -> GlobalTrunk | EnhancedTrunk:
        trunk = getattr(unwrap_model(self.generator), "trunk", None)
        if not isinstance(trunk, EnhancedTrunk):
            raise RecipeError(
                "method.coarse_model is the start of a generator with local enhancers; choose "
                'generator.name = "hd_local", or leave it out'
            )
        return trunk.coarse
