"""A recipe's parts tried before a run begins: networks on a training example, without weights; method; optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from p2pkit.contracts import Method, WeightedLoss
from p2pkit.data.bad_samples import Substitution
from p2pkit.data.loader import Example, Examples, steps_per_epoch
from p2pkit.errors import P2PKitError, RecipeError, did_you_mean
from p2pkit.inference.policy import refuse_unfitting
from p2pkit.networks.encoding import Encoded
from p2pkit.recipe.assemble import Data, make_losses
from p2pkit.recipe.networks import make, transform_of
from p2pkit.recipe.recipe import Recipe
from p2pkit.training.optimizers import try_optimizer
from p2pkit.training.step import judgement


@dataclass(frozen=True)
class Tried:
    """What generator and discriminator are and give, in words, and the method's other networks by name."""

    generator: str
    discriminator: str
    others: Mapping[str, str]


def try_recipe(recipe: Recipe, data: Data, processes: int = 1) -> Tried:
    """Send a batch of the first training example through both networks, and take a step with each optimizer.

    Raises:
        DataError: the example cannot be read or cropped, is of a size that the generator does not take, or there are
            too few pairs for a batch.
        RecipeError: the networks do not take what they are given, the method does not take the networks, or a loss or
            an optimizer cannot be used.
    """
    steps_per_epoch(len(data.pairs), recipe.loader, processes)
    for settings in dict.fromkeys(recipe.optimizers.values()):
        try_optimizer(settings)
    networks = without_weights(partial(_networks, recipe, data, make_losses(recipe, data)))
    generator, discriminator = networks.pop("generator"), networks.pop("discriminator")
    example = _example(recipe, data)
    source = example.tensors[0].expand(recipe.loader.batch_size // processes, -1, -1, -1)
    source = source.to(next(generator.parameters()).device)
    refuse_unfitting(generator, source.shape[2:], example.key)
    with torch.no_grad():
        if isinstance(generator, Encoded) and recipe.encoding is not None:
            _image(f"encoding {recipe.encoding.name!r}", generator.encoding, source, generator.encoding.channels)
        fake = _image(f"generator {recipe.generator.name!r}", generator, source, data.channels["target_channels"])
        judged = _call(f"discriminator {recipe.discriminator.name!r}", discriminator, source, fake)
    logits = judgement(judged).logits
    return Tried(
        f"{_parameters(generator)}, {_size(source[0])} -> {_size(fake[0])}",
        f"{_parameters(discriminator)}, logits {', '.join(_size(each[0]) for each in logits)}",
        {name: _parameters(network) for name, network in networks.items()},
    )


def _example(recipe: Recipe, data: Data) -> Example:
    """The first training example. The first held-out pair is read too, since it is needed late."""
    form, transform = data.form, transform_of(recipe, data.networks(recipe).encoding)
    example = Examples(data.pairs, form, transform, recipe.loader)[0, 0]
    if isinstance(example, P2PKitError):
        raise example
    if len(data.held_out):
        held_out = Substitution(len(data.held_out), data.bad_data)
        held_out.first_usable(0, lambda index: form.tensors(data.held_out[index]))
    return example


def _call(name: str, network: nn.Module, *images: Tensor) -> Any:
    try:
        return network(*images)
    except (RuntimeError, ValueError) as error:
        size = f"{images[0].shape[2]}x{images[0].shape[3]}"
        raise RecipeError(f"{name} does not take training images of {size} (height x width): {error}") from error


def _image(name: str, network: nn.Module, source: Tensor, channels: Any) -> Tensor:
    """What ``network`` makes of ``source`` [N, Cs, H, W], which has to be [N, channels, H, W]."""
    made = _call(name, network, source)
    if not isinstance(made, Tensor):
        raise RecipeError(f"{name} gives a {type(made).__name__} where a tensor is expected")
    expected = (len(source), channels, *source.shape[2:])
    if made.shape != expected:
        raise RecipeError(f"{name} gives {_sides(made.shape[1:])} where {_sides(expected[1:])} is expected")
    return made


def without_weights(make_networks: Callable[[], dict[str, nn.Module]]) -> dict[str, nn.Module]:
    """Networks made on the meta device: their sizes, without memory for their weights."""
    try:
        with torch.device("meta"):
            return make_networks()
    except RecipeError:  # a network that looks at its own weights as it is made
        return make_networks()


def _networks(recipe: Recipe, data: Data, losses: Sequence[WeightedLoss]) -> dict[str, nn.Module]:
    """Generator, discriminator and the method's own networks."""
    networks = data.networks(recipe)
    both = networks.both()
    supplied = {**both, "make_discriminator": networks.discriminator, "losses": losses, **data.channels}
    method: Method = make(recipe.method, **supplied)
    return both | {name: _trainable(recipe.method.name, method, name) for name in method.networks}


def _trainable(owner: str, method: Method, name: str) -> nn.Module:
    network = getattr(method, name, None)
    if not isinstance(network, nn.Module):
        guess = did_you_mean(name, [key for key, value in vars(method).items() if isinstance(value, nn.Module)])
        raise RecipeError(f"method {owner!r}: its networks name {name!r}, but it has no such torch module{guess}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError(f"method {owner!r}: {name} has nothing to train: no parameter of it takes a gradient")
    return network


def _parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.3f} M parameters"


def _size(image: Tensor) -> str:
    return _sides(image.shape)


def _sides(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
