"""How a step is made: by the method, which updates its networks, and then by the EMA, which follows the generator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from p2pkit.contracts import Batch, Update
from p2pkit.data.loader import on_device
from p2pkit.errors import RecipeError, in_one_line
from p2pkit.training.checkpoint import Trained
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
        with _failures_named():
            self.parts.method.train_step(batch, update)
        networks: Any = self.trained.networks
        if EMA in networks:
            networks[EMA].update_parameters(networks["generator"])
        return self.update.take_terms()


@contextmanager
def _failures_named() -> Iterator[None]:
    """Say in a sentence what a step fails by, where it is for how the recipe has it computed.

    Raises:
        RecipeError: something cannot be compiled, or has no deterministic algorithm.
    """
    try:
        yield
    except RuntimeError as error:
        key, why = "train.compile", f"a network cannot be compiled ({in_one_line(error)})"
        if lacking := re.search(r"(\S+) does not have a deterministic implementation", str(error)):
            key, why = "train.deterministic", f"PyTorch has no such algorithm for {lacking[1]}, which a step takes"
        elif "does not currently support double backward" in str(error):
            why = "PyTorch has no second derivative of compiled networks, which a loss of gradients takes"
        elif not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise RecipeError(f"{key}: {why}; leave {key} out") from error
