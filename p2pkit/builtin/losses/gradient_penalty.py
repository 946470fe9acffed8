"""Losses that hold a discriminator's gradient with respect to its image.

A discriminator's value of an image is here one number: the mean of its logits over all patches and scales.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from p2pkit.contracts import DiscriminatorOutput, Step


class WGANGP:
    """Wasserstein distance with gradient penalty (Gulrajani et al. 2017, equation 3).

    The discriminator is a critic: it raises its mean value of real images above that of fakes, as far as a gradient of
    norm 1 lets it. The gradient is taken with respect to the image alone, beside its source, at points drawn evenly
    between each real image and its fake. It must be one image's own, so the discriminator has norm = "instance" or
    "none" (section 4): batch norm would mix the images of a batch.

    Args:
        penalty: weight of the gradient penalty beside the difference of the values.
    """

    decision_boundary = None  # a critic's values have any offset

    def __init__(self, penalty: Annotated[float, Field(ge=0)] = 10.0) -> None:
        self.penalty = penalty

    def generator_loss(self, step: Step) -> Tensor:
        """The mean value of the fakes, negated."""
        return -_values(step.pred_fake).mean()

    def discriminator_loss(self, step: Step) -> Tensor:
        """The mean value of fakes less that of real images, and the penalty (gradient norm - 1)^2."""
        difference = _values(step.pred_fake).mean() - _values(step.pred_real).mean()
        place = torch.rand(len(step.target), 1, 1, 1, device=step.target.device)
        gradient = _gradient(step, torch.lerp(step.target, step.fake, place))
        norms: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        return difference + self.penalty * (norms - 1).square().mean()


class R1:
    """A gradient penalty on real images (Mescheder et al. 2018, equation 9), to stand beside an adversarial loss.

    The recipe's weight is the paper's gamma. The gradient is taken with respect to the image alone, beside its source.
    """

    def discriminator_loss(self, step: Step) -> Tensor:
        """Half the mean squared norm of the gradient."""
        return _gradient(step, step.target).square().sum(1).mean() / 2


def _values(output: DiscriminatorOutput) -> Tensor:
    """The value [N] of each of the N images."""
    return torch.stack([logits.flatten(1).mean(1) for logits in output.logits]).mean(0)


def _gradient(step: Step, image: Tensor) -> Tensor:
    """The gradient [N, C * H * W] of the value of each image [N, C, H, W], itself to be differentiated."""
    image = image.detach().requires_grad_()
    output = step.discriminate(image)
    # the mean over thousands of patches has a gradient that half precision would lose on its way back
    patches = max(logits[0].numel() for logits in output.logits)
    (gradient,) = torch.autograd.grad(_values(output).sum() * patches, image, create_graph=True)
    return gradient.flatten(1) / patches
