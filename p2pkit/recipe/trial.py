"""A recipe's networks tried on a training example, on the meta device: sizes and counts, without weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from p2pkit.contracts import SizedGenerator
from p2pkit.engine.loader import Examples
from p2pkit.errors import P2PKitError, RecipeError
from p2pkit.images.transforms import PairTransform
from p2pkit.inference import fitting_size
from p2pkit.recipe.assemble import Data, make_networks
from p2pkit.recipe.recipe import Recipe


@dataclass(frozen=True)
class NetworksTried:
    """What generator and discriminator are and give, in words."""

    generator: str
    discriminator: str


def try_networks(recipe: Recipe, data: Data) -> NetworksTried:
    """Send a training example through both networks.

    Raises:
        DataError: the example cannot be read or cropped.
        RecipeError: the networks do not take images of its size or channels.
    """
    with torch.device("meta"):
        networks = make_networks(recipe, data)
    generator, discriminator = networks["generator"], networks["discriminator"]
    example = Examples(data.pairs, PairTransform(recipe.transform, recipe.run.seed), cache=False)[0, 0]
    if isinstance(example, P2PKitError):
        raise example
    source = example[0][0][None].to("meta")
    _check_size(recipe, generator, source)
    try:
        fake = generator(source)
        logits = discriminator(source, fake)
    except (RuntimeError, ValueError) as error:
        size = f"{source.shape[2]}x{source.shape[3]}"
        raise RecipeError(
            f"the networks do not take the training images of {size} (height x width): {error}"
        ) from error
    sizes = ", ".join(_size(each) for each in (logits if isinstance(logits, list) else [logits]))
    return NetworksTried(
        f"{_parameters(generator)}, {_size(source)} -> {_size(fake)}",
        f"{_parameters(discriminator)}, logits {sizes}",
    )


def _check_size(recipe: Recipe, generator: nn.Module, source: Tensor) -> None:
    height, width = source.shape[2:]
    if isinstance(generator, SizedGenerator) and fitting_size(generator, (height, width)) != (height, width):
        raise RecipeError(
            f"generator {recipe.generator.name!r} takes heights and widths that are multiples of "
            f"{generator.size_multiple}, from {generator.smallest_size} on; training gives it "
            f"{height}x{width} (height x width). Set transform.load_size or transform.crop_size"
        )


def _parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.3f} M parameters"


def _size(image: Tensor) -> str:
    return "x".join(str(side) for side in image.shape[1:])
