"""The training step of BicycleGAN (Zhu et al. 2017, section 3): cVAE-GAN and cLR-GAN at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from p2pkit.contracts import Batch, Terms, Update, WeightedLoss
from p2pkit.errors import RecipeError
from p2pkit.networks.latent import Latent
from p2pkit.training.step import StepContext, discriminator_losses, frozen, generator_losses, unwrap_model
from p2pkit_bicyclegan.encoder import ResidualEncoder

Weight = Annotated[float, Field(ge=0)]


class BicycleGAN:
    """Two fakes of each source: one of the latent that the encoder sees in the target, one of a random latent.

    The first should be the target (cVAE-GAN, section 3.2): all of the recipe's losses apply to it. The second should
    pass for real and let the encoder find its latent again (cLR-GAN, section 3.3); it has no target to be compared
    with, so only adversarial losses apply to it, those that have a term for the discriminator. Each has a
    discriminator of its own.

    Args:
        kl_weight: weight of the divergence of the encoder's latents from N(0, 1), summed over the latent's values.
        latent_weight: weight of the mean absolute difference between random latents and those found again.
        encoder_width: channels of the encoder's first layer.
        encoder_blocks: residual blocks of the encoder; 4 for 256x256, 3 for 128x128.
    """

    networks = ("generator", "encoder", "discriminator", "latent_discriminator")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        make_discriminator: Callable[[], nn.Module],
        losses: Sequence[WeightedLoss],
        target_channels: int,
        kl_weight: Weight = 0.01,
        latent_weight: Weight = 0.5,
        encoder_width: Annotated[int, Field(gt=0)] = 64,
        encoder_blocks: Annotated[int, Field(gt=0, le=8)] = 4,
    ) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses
        self.latent_discriminator = make_discriminator()
        self.encoder: nn.Module = ResidualEncoder(
            target_channels, latent_of(generator).size, encoder_width, encoder_blocks
        )
        self.kl_weight, self.latent_weight = kl_weight, latent_weight

    def train_step(self, batch: Batch, update: Update) -> None:
        """One update of each discriminator, then one of generator and encoder together."""
        source, target = batch.source, batch.target
        mean, log_variance = self.encoder(target)
        latent = latent_of(self.generator)(source)
        encoded = self.generator(source, mean + (log_variance / 2).exp() * torch.randn_like(mean))
        random = self.generator(source, latent)

        seen = StepContext(source, target, encoded.detach(), self.discriminator, batch.mask)
        update("discriminator", discriminator_losses(self.losses, seen))
        seen = StepContext(source, target, random.detach(), self.latent_discriminator, batch.mask)
        random_terms = discriminator_losses(self.losses, seen)
        update("latent_discriminator", random_terms)

        adversarial = [loss for loss in self.losses if loss.name in random_terms]
        with frozen(self.discriminator), frozen(self.latent_discriminator):
            terms = generator_losses(self.losses, StepContext(source, target, encoded, self.discriminator, batch.mask))
            seen = StepContext(source, target, random, self.latent_discriminator, batch.mask)
            terms |= {f"random_{name}": term for name, term in generator_losses(adversarial, seen).items()}
            # with a mask the encoder, too, sees the target where nothing counts
            update(("generator", "encoder"), {**terms, **self._latent_terms(mean, log_variance, seen.fake, latent)})

    def _latent_terms(self, mean: Tensor, log_variance: Tensor, random: Tensor, latent: Tensor) -> Terms:
        terms = {}
        if self.kl_weight:
            terms["kl_divergence"] = self.kl_weight * kl_divergence(mean, log_variance)
        if self.latent_weight:
            # lowered by the encoder too, the two would hide the latent in the image (section 4)
            with frozen(self.encoder):
                found, _ = self.encoder(random)
            terms["latent_regression"] = self.latent_weight * F.l1_loss(found, latent)
        return terms


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) for [N, size], summed over the values of a latent, a mean over images."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2


def latent_of(generator: nn.Module) -> Latent:
    """What draws the latents of ``generator``.

    Raises:
        RecipeError: it draws none.
    """
    latent = getattr(unwrap_model(generator), "latent", None)
    if not isinstance(latent, Latent):
        raise RecipeError(
            f"method 'bicyclegan': the generator ({type(unwrap_model(generator)).__name__}) takes no latent. Choose "
            "'bicyclegan_unet', or another that is called with (source, latent) and whose attribute latent is a "
            "p2pkit.networks.latent.Latent"
        )
    return latent
