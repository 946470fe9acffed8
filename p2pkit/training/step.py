"""What methods share: the view of a step that losses see, the weighted terms of the losses, a network held still."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from p2pkit.contracts import DiscriminatorOutput, Step, WeightedLoss
from p2pkit.errors import RecipeError
from p2pkit.networks.encoding import behind_encoding
from p2pkit.training.discriminator_augmentation import DRAWS, AugmentedDiscriminator
from p2pkit.training.metrics_log import ACCURACIES


def unwrap_model(network: nn.Module) -> Any:
    """The component itself, out of what it is wrapped in: DistributedDataParallel, an encoding, augmentation."""
    network = _behind_encoding(network)
    return network.network if isinstance(network, AugmentedDiscriminator) else network


def _behind_encoding(network: nn.Module) -> Any:
    return behind_encoding(getattr(network, "module", network))  # DistributedDataParallel has it as its module


@dataclass(eq=False)
class StepContext:
    """The losses' view of one step (see contracts.Step). The discriminator runs at most once an image, when asked.

    Real and fake images go through it separately: they must never share one batch of batch norm's statistics. With
    the batch's ``mask``, ``fake`` becomes ``mask * fake + (1 - mask) * target``.
    """

    source: Tensor
    target: Tensor
    fake: Tensor
    discriminator: nn.Module | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            self.fake = self.mask * self.fake + (1 - self.mask) * self.target

    @cached_property
    def pred_real(self) -> DiscriminatorOutput:
        """The discriminator's output for the target."""
        return self.discriminate(self.target)

    @cached_property
    def pred_fake(self) -> DiscriminatorOutput:
        """The discriminator's output for the fake."""
        return self.discriminate(self.fake)

    def discriminate(self, image: Tensor) -> DiscriminatorOutput:
        """The discriminator's output for ``image`` [N, Ct, H, W] beside the step's source.

        Raises:
            RecipeError: the method trains without a discriminator.
        """
        if self.discriminator is None:
            raise RecipeError("the method trains without a discriminator, which this loss asks for; leave it out")
        network = _behind_encoding(self.discriminator)
        keywords: dict[str, Any] = {}
        if getattr(network, "has_features", False):
            keywords["features"] = True
        augmented = isinstance(network, AugmentedDiscriminator)
        if augmented:
            keywords["draws"] = self._draws
        output = DiscriminatorOutput.of(self.discriminator(self.source, image, **keywords))
        if augmented and image is self.target and output.logits[0].requires_grad:  # False when frozen
            network.adapt(output.logits)
        return output

    @cached_property
    def _draws(self) -> Tensor:
        """One discriminator augmentation for all images of the step, so that their features can be compared."""
        return torch.rand(len(self.source), DRAWS, device=self.source.device)


_no_term: Callable[[Step], Tensor | None] = dict[Step, Tensor]().get
"""Gives None for every step."""


@dataclass(frozen=True)
class AdaptedLoss:
    """A loss of any form that a component may have, as methods see it (contracts.Loss)."""

    component: Any
    """As its factory made it."""
    generator_loss: Callable[[Step], Tensor | None]
    discriminator_loss: Callable[[Step], Tensor | None]

    @classmethod
    def of(cls, component: Any) -> AdaptedLoss:
        """Adapt a loss; one that is a torch module is frozen and put in evaluation mode, since nothing trains it.

        Raises:
            RecipeError: it has no form that a loss may have.
        """
        if isinstance(component, nn.Module):
            component.requires_grad_(False).eval()
        for_generator = getattr(component, "generator_loss", None)
        for_discriminator = getattr(component, "discriminator_loss", None)
        if for_generator or for_discriminator:
            return cls(component, for_generator or _no_term, for_discriminator or _no_term)
        if not callable(component):
            raise RecipeError(
                f"{type(component).__name__} has neither generator_loss(step) nor discriminator_loss(step), and is not "
                "a function of (output, target); give it one of these"
            )
        return cls(component, lambda step: component(step.fake, step.target), _no_term)


def generator_losses(losses: Sequence[WeightedLoss], step: StepContext) -> dict[str, Tensor]:
    """The weighted terms that the losses have for the generator, by the losses' names."""
    terms = {}
    for name, weight, loss in losses:
        if weight and (term := loss.generator_loss(step)) is not None:
            terms[name] = weight * term
    return terms


class DiscriminatorTerms(dict[str, Tensor]):
    """Terms of a discriminator by name, and beside them what is only logged."""

    accuracy: Mapping[str, Tensor] = {}
    """The shares, from 0 to 1, of logits on the right side of the losses' decision boundary, of real and fake images.
    """


def discriminator_losses(losses: Sequence[WeightedLoss], step: StepContext) -> DiscriminatorTerms:
    """The weighted terms that the losses have for the discriminator, by the losses' names."""
    terms, boundaries = DiscriminatorTerms(), list[float | None]()
    for name, weight, loss in losses:
        if weight and (term := loss.discriminator_loss(step)) is not None:
            terms[name] = weight * term
            boundaries.append(getattr(getattr(loss, "component", loss), "decision_boundary", 0.0))
    # as build has it for an adaptive augmentation; that of a critic is None
    if terms and None not in boundaries and {"pred_real", "pred_fake"} <= vars(step).keys():
        boundary = next(filter(None, boundaries), 0.0)
        terms.accuracy = {
            ACCURACIES[0]: _share(step.pred_real, lambda logits: logits > boundary),
            ACCURACIES[1]: _share(step.pred_fake, lambda logits: logits <= boundary),
        }
    return terms


@torch.no_grad()
def _share(output: DiscriminatorOutput, is_right: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over scales of the share of logits that are right."""
    return torch.stack([is_right(logits).float().mean() for logits in output.logits]).mean()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients flow through ``network`` without collecting any for its own weights."""
    trained = list(filter(attrgetter("requires_grad"), network.parameters()))
    with ExitStack() as stack:
        if hasattr(network, "no_sync"):
            # DistributedDataParallel would wait for gradients that never come
            stack.enter_context(cast(Any, network).no_sync())
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)


@contextmanager
def activations_before(network: nn.Module, before: Sequence[Tensor]) -> Iterator[None]:
    """Let a :func:`frozen` network compute with its weights ``before`` an update, gradients pass by the new ones.

    So the generator of pix2pix's Lua code learns: from the discriminator's output for the fake, its activations and
    batch statistics from before its update, by the transposes of the convolutions, and the scales of the norms, after.

    Args:
        network: wrapped or not.
        before: copies of all of its parameters, in their order.

    Raises:
        RecipeError: a layer multiplies with a copy of its weights, which would still be the old one in the gradient.
    """
    weights, ran, kept = list(network.parameters()), list[bool](), set[int]()
    # running statistics too, which have taken in these activations already
    values = [*weights, *network.buffers()]
    updated = list(map(torch.clone, values))

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.data_ptr())
        return tensor

    hook = network.register_forward_hook(lambda *_: ran.append(True))
    try:
        _put_back(weights, before)
        # what goes through hooks is used as it is at the backward pass, which else refuses weights that have changed
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            yield
    finally:
        hook.remove()
        _put_back(values, updated)
    # of those of one dimension many are biases, which take no part in a gradient towards the image
    if ran and not all(weight.ndim == 1 or weight.data_ptr() in kept for weight in weights):
        raise RecipeError(
            'method.activations = "before_update" needs a discriminator whose layers multiply with its weights '
            "themselves, and some of these multiply with copies, or have no part in the generator's gradient. Leave "
            'out train.precision and discriminator.spectral_norm, choose a "patchgan", or write activations = "updated"'
        )


@torch.no_grad()
def _put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
