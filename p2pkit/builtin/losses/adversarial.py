"""Adversarial losses. The discriminator's is the mean of its real and fake halves (Isola et al. 2017, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from p2pkit.contracts import Step

HALVED = (
    "Lower the mean of the discriminator's terms for real and fake, as the paper does; else their sum, as its Lua code "
    "does. With Adam either moves the weights alike."
)
ORDER = (
    "Which images the discriminator is given first. It changes only what it keeps from call to call: running "
    "statistics of batch norm, vectors of spectral norm."
)


@dataclass(eq=False)
class AdversarialLoss:
    """What adversarial losses have in common: the terms are means over all patches and all scales."""

    halved: Annotated[bool, Field(description=HALVED)] = True
    order: Annotated[Literal["real_fake", "fake_real"], Field(description=ORDER)] = "real_fake"

    def real(self, logits: Tensor) -> Tensor:
        """How far logits of real images are from what they should be."""
        raise NotImplementedError

    def fake(self, logits: Tensor) -> Tensor:
        """How far logits of fakes are from what the discriminator should say."""
        raise NotImplementedError

    def generator_loss(self, step: Step) -> Tensor:
        """The generator's term: its fakes should pass for real."""
        return torch.stack(list(map(self.real, step.pred_fake.logits))).mean()

    def discriminator_loss(self, step: Step) -> Tensor:
        """The discriminator's term: real and fake should be classified as what they are."""
        if self.order == "fake_real":
            _ = step.pred_fake  # a step asks once for each
        real = torch.stack(list(map(self.real, step.pred_real.logits)))
        fake = torch.stack(list(map(self.fake, step.pred_fake.logits)))
        both = real.mean() + fake.mean()
        return both / 2 if self.halved else both


class GAN(AdversarialLoss):
    """Cross-entropy, with the non-saturating loss for the generator: it maximises log D(x, G(x)), as in the paper."""

    def real(self, logits: Tensor) -> Tensor:
        """-log sigmoid(logits)."""
        return F.softplus(-logits).mean()

    def fake(self, logits: Tensor) -> Tensor:
        """-log(1 - sigmoid(logits))."""
        return F.softplus(logits).mean()


class LSGAN(AdversarialLoss):
    """Least squares (Mao et al. 2017): 1 for real, 0 for fake."""

    decision_boundary = 0.5

    def real(self, logits: Tensor) -> Tensor:
        """(logits - 1)^2."""
        return (logits - 1).square().mean()

    def fake(self, logits: Tensor) -> Tensor:
        """logits^2."""
        return logits.square().mean()


class Hinge(AdversarialLoss):
    """Hinge (Lim and Ye 2017): real above 1, fake below -1; the generator raises the logits without bound."""

    def real(self, logits: Tensor) -> Tensor:
        """max(0, 1 - logits)."""
        return F.relu(1 - logits).mean()

    def fake(self, logits: Tensor) -> Tensor:
        """max(0, 1 + logits)."""
        return F.relu(1 + logits).mean()

    def generator_loss(self, step: Step) -> Tensor:
        """The mean logit of fakes, negated."""
        return -torch.stack(list(map(Tensor.mean, step.pred_fake.logits))).mean()
