"""What methods share: the view of a step that losses see, the weighted terms of the losses, a network held still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, cast

from torch import Tensor, nn

from p2pkit.contracts import Judgement, WeightedLoss
from p2pkit.networks.encoding import bare

__all__ = ["StepView", "bare", "discriminator_terms", "frozen", "generator_terms", "judgement"]


class StepView:
    """The losses' view of one step (see contracts.Step). The discriminator runs at most once an image, when asked.

    Real and fake images go through it separately: they must never share one batch of batch norm's statistics.
    """

    def __init__(self, source: Tensor, target: Tensor, fake: Tensor, discriminator: nn.Module) -> None:
        self.source, self.target, self.fake = source, target, fake
        self._discriminator = discriminator

    @cached_property
    def on_real(self) -> Judgement:
        """The discriminator's judgement of the target."""
        return self.judge(self.target)

    @cached_property
    def on_fake(self) -> Judgement:
        """The discriminator's judgement of the fake."""
        return self.judge(self.fake)

    def judge(self, image: Tensor) -> Judgement:
        """The discriminator's judgement of ``image`` [N, Ct, H, W] beside the step's source."""
        if getattr(bare(self._discriminator), "has_features", False):
            verdict = self._discriminator(self.source, image, features=True)
        else:
            verdict = self._discriminator(self.source, image)
        return judgement(verdict)


def judgement(verdict: Tensor | list[Tensor] | Judgement) -> Judgement:
    """What a discriminator answers (see contracts.Discriminator), in its one full form."""
    if isinstance(verdict, Judgement):
        return verdict
    return Judgement(verdict if isinstance(verdict, list) else [verdict], [])


def generator_terms(losses: Sequence[WeightedLoss], step: StepView) -> dict[str, Tensor]:
    """The weighted terms that the losses have for the generator, by the losses' names."""
    found = ((name, weight, loss.generator_term(step)) for name, weight, loss in losses if weight)
    return {name: weight * term for name, weight, term in found if term is not None}


def discriminator_terms(losses: Sequence[WeightedLoss], step: StepView) -> dict[str, Tensor]:
    """The weighted terms that the losses have for the discriminator, by the losses' names."""
    found = ((name, weight, loss.discriminator_term(step)) for name, weight, loss in losses if weight)
    return {name: weight * term for name, weight, term in found if term is not None}


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients flow through ``network`` without collecting any for its own weights."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
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
