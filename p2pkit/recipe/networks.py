"""A recipe's components made: networks behind the recipe's encoding, with weights that depend on the seed alone."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accelerate.utils import set_seed
from torch import nn

from p2pkit.catalogue import build
from p2pkit.contracts import Component, ValueRange
from p2pkit.encoded import Encoded
from p2pkit.images.transforms import PairTransform
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.seeds import derived


def make(chosen: Chosen, **supplied: Any) -> Component:
    """Build the component that a recipe has chosen."""
    return build(chosen.registered, chosen.kind, chosen.arguments(), supplied)


@dataclass(frozen=True)
class Networks:
    """What makes a recipe's networks, each behind the recipe's encoding if it has one."""

    recipe: Recipe
    channels: Mapping[str, int]
    """Of sources and targets, as components ask for them."""
    source_range: ValueRange

    @cached_property
    def encoding(self) -> Any:
        """The recipe's encoding; None if it has none."""
        chosen = self.recipe.encoding
        if chosen is None:
            return None
        return make(chosen, source_channels=self.channels["source_channels"], source_range=self.source_range)

    @property
    def seen_channels(self) -> dict[str, int]:
        """The channels that the networks see."""
        return {**self.channels, **({"source_channels": self.encoding.channels} if self.encoding else {})}

    def both(self) -> dict[str, nn.Module]:
        """Generator and discriminator, with initial weights that depend on the seed alone."""
        set_seed(derived(self.recipe.run.seed, "weights") % 2**32)
        return {"generator": self._made(self.recipe.generator), "discriminator": self.discriminator()}

    def discriminator(self) -> nn.Module:
        """A discriminator with weights of its own."""
        return self._made(self.recipe.discriminator)

    def _made(self, chosen: Chosen) -> nn.Module:
        network: nn.Module = make(chosen, **self.seen_channels)
        # a copy, because networks go to other devices
        return Encoded(deepcopy(self.encoding), network) if self.encoding else network


def transform_of(recipe: Recipe, encoding: Any) -> PairTransform:
    """What the pairs go through, sources as ``encoding`` (if there is one) wants it."""
    return PairTransform(recipe.transform, recipe.run.seed, getattr(encoding, "resampling", "bicubic"))
