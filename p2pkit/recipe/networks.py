"""A recipe's components made: networks behind the recipe's encoding, with weights that depend on the seed alone."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from accelerate.utils import set_seed
from torch import nn

from p2pkit.catalogue import build
from p2pkit.contracts import Component, Resampling, ValueRange
from p2pkit.data.augmentation import PairTransform
from p2pkit.errors import RecipeError
from p2pkit.networks.encoding import Encoded
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.utils.seeds import derived


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
        """The recipe's encoding; None if it has none.

        Raises:
            RecipeError: it cannot be made, or is not what it should be.
        """
        chosen = self.recipe.encoding
        if chosen is None:
            return None
        supplied = {"source_channels": self.channels["source_channels"], "source_range": self.source_range}
        encoding = _module(chosen, supplied)
        channels, resampling = getattr(encoding, "channels", None), getattr(encoding, "resampling", None)
        if not isinstance(channels, int) or channels < 1:
            raise RecipeError(f"{_called(chosen)}: channels is {channels!r}, expected a number from 1 on")
        if resampling not in get_args(Resampling):
            allowed = ", ".join(get_args(Resampling))
            raise RecipeError(f"{_called(chosen)}: resampling is {resampling!r}, expected one of: {allowed}")
        return encoding

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
        network = _module(chosen, self.seen_channels)
        # a copy, because networks go to other devices
        return Encoded(deepcopy(self.encoding), network) if self.encoding else network


def _module(chosen: Chosen, supplied: Mapping[str, Any]) -> nn.Module:
    made = make(chosen, **supplied)
    if not isinstance(made, nn.Module):
        raise RecipeError(f"{_called(chosen)} makes something that is no torch module: {type(made).__name__}")
    return made


def _called(chosen: Chosen) -> str:
    return f"{chosen.kind}: {chosen.name!r} of {chosen.registered.origin}"


def transform_of(recipe: Recipe, encoding: Any) -> PairTransform:
    """What the pairs go through, sources as ``encoding`` (if there is one) wants it."""
    return PairTransform(recipe.transform, recipe.run.seed, getattr(encoding, "resampling", "bicubic"))
