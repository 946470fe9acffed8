"""How a step is made: by the method, which updates its networks, and then by the EMA, which follows the generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from p2pkit.contracts import Batch, Update
from p2pkit.data.loader import on_device
from p2pkit.training.checkpoint import Trained
from p2pkit.training.compiling import compiling_failures_named
from p2pkit.training.parts import TrainingParts
from p2pkit.training.prepare import EMA
from p2pkit.training.update import Updater


@dataclass
class Steps:
    """Makes steps one operation after another."""

    parts: TrainingParts
    trained: Trained
    update: Updater

    def make(self, batch: Batch) -> dict[str, Tensor]:
        """Make the step that ``update`` is at, on this process's share of a batch; its terms, by ``network/loss``.

        Raises:
            RecipeError: a part of the recipe cannot be used.
            NotFiniteError: a loss or a gradient is NaN or infinite; as :class:`Updater` says.
        """
        return self._step(on_device(batch, self.update.accelerator.device), self.update)

    def _step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Make a step on a ``batch`` that is on the device; the method gets ``update``."""
        self.update.batch = batch
        with compiling_failures_named():
            self.parts.method.train_step(batch, update)
        networks: Any = self.trained.networks
        if EMA in networks:
            networks[EMA].update_parameters(networks["generator"])
        return self.update.take_terms()
