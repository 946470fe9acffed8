"""Distances between what a network sees in the output and in the target."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from p2pkit.contracts import Step
from p2pkit.errors import RecipeError


class FeatureMatching:
    """The L1 distance between the discriminator's features of target and fake (Wang et al. 2018, equation 4).

    It stands beside an adversarial loss, which trains the discriminator (whose own features must not be pulled
    together), and needs one that gives features, as every patchgan does.
    """

    def generator_loss(self, step: Step) -> Tensor:
        """The sum over all layers, and all scales, of the mean |real feature - fake feature|.

        Raises:
            RecipeError: the discriminator gives no features.
        """
        if not step.pred_fake.features:
            raise RecipeError(
                "losses: feature_matching compares the discriminator's features, and this discriminator gives none; "
                'choose one that does, such as "patchgan_70". A discriminator of your own sets has_features = True and '
                "answers with a p2pkit.contracts.DiscriminatorOutput that holds them"
            )
        pairs = zip(step.pred_fake.features, step.pred_real.features, strict=True)
        return torch.stack([F.l1_loss(fake, real.detach()) for fake, real in pairs]).sum()
