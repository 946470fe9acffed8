"""Discriminator augmentation: what a discriminator sees in training is transformed at random, and differentiably.

The transforms are those of DiffAugment (Zhao et al. 2020, arXiv 2006.10738), the adaptive probability is that of ADA
(Karras et al. 2020, arXiv 2006.06676). The source goes through the geometric ones beside its image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as processes

from p2pkit.settings import DiscriminatorAugmentationSettings

DRAWS = 10
"""Uniform numbers in [0, 1) that the transforms of one image take."""
_FARTHEST, _CUT = 1 / 8, 1 / 2
"""Of a side: how far images are shifted, and what is cut out."""
_LATEST = 1 / 4
"""Weight of the latest batch in the moving average of signs; ADA takes the mean over four batches."""


class AugmentedDiscriminator(nn.Module):
    """A discriminator that sees augmented sources and images in training, and in evaluation what it is given.

    It stands behind an encoding: the pixels that a shift or a cutout leaves empty are 0 in all channels, which is grey,
    and no class at all where there is a channel a class.

    Args:
        network: the discriminator itself.
        settings: the recipe's section.
        decision_boundary: the logit between real and fake, which an adaptive probability compares with.
    """

    probability: Tensor
    """With which each transform is applied to each image: a scalar, which checkpoints hold."""
    real_sign: Tensor
    """ADA's r_t: the mean sign of logits of real images, 1 where all are taken for real; a scalar."""

    def __init__(
        self, network: nn.Module, settings: DiscriminatorAugmentationSettings, decision_boundary: float = 0.0
    ) -> None:
        super().__init__()
        self.network, self.settings, self.decision_boundary = network, settings, decision_boundary
        self.has_features = getattr(network, "has_features", False)
        first = settings.probability if settings.adaptive_target is None else 0.0
        self.register_buffer("probability", torch.tensor(first))
        self.register_buffer("real_sign", torch.tensor(0.0))

    def forward(self, source: Tensor, image: Tensor, draws: Tensor | None = None, **keywords: Any) -> Any:
        """What the network makes of ``image`` [N, Ct, H, W] beside ``source`` [N, Cs, H, W], both augmented.

        ``draws`` [N, DRAWS] says how; without them they are drawn here.
        """
        if self.training:
            if draws is None:
                draws = torch.rand(len(image), DRAWS, device=image.device)
            source, image = augment(source, image, draws, self.settings.policy, self.probability)
        return self.network(source, image, **keywords)

    @torch.no_grad()
    def adapt(self, logits: Sequence[Tensor]) -> None:
        """Raise the probability where too many ``logits`` of real images (one tensor a scale) are on the real side.

        Too many real images recognised is a discriminator that overfits (ADA, section 3). Every process calls it alike.
        """
        target, images = self.settings.adaptive_target, len(logits[0])
        if target is None:
            return
        sign = torch.stack([(scale - self.decision_boundary).sign().float().mean() for scale in logits]).mean()
        if processes.is_available() and processes.is_initialized():
            processes.all_reduce(sign)
            sign, images = sign / processes.get_world_size(), images * processes.get_world_size()
        self.real_sign.lerp_(sign, _LATEST)
        move = (self.real_sign - target).sign() * (images / self.settings.adaptive_images)
        self.probability.add_(move).clamp_(0.0, self.settings.probability)


def augment(
    source: Tensor, image: Tensor, draws: Tensor, policy: Sequence[str], probability: Tensor
) -> tuple[Tensor, Tensor]:
    """``source`` and ``image`` [N, C, H, W] transformed: shifts and cutouts alike, colours of the image alone.

    Each transform of the ``policy`` is applied to an image with ``probability`` (a scalar), as its ``draws`` [N, DRAWS]
    in [0, 1) say. Gradients go through, also twice.
    """
    applied, numbers = (draws[:, :3] < probability).unbind(1), draws[:, 3:].unbind(1)
    if "colour" in policy:
        image = torch.where(applied[0].view(-1, 1, 1, 1), _recoloured(image, *numbers[:3]), image)
    if "translation" in policy:
        down, right = _shifts(numbers[3], image.shape[2]), _shifts(numbers[4], image.shape[3])
        source, image = (_shifted(one, down * applied[1], right * applied[1]) for one in (source, image))
    if "cutout" in policy:
        rows, columns = _cut(numbers[5], image.shape[2]), _cut(numbers[6], image.shape[3])
        left = ~(rows[:, None, :, None] & columns[:, None, None, :] & applied[2].view(-1, 1, 1, 1))
        source, image = source * left, image * left
    return source, image


def augmentation_metrics(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, float]]:
    """The adaptive probability of each network that has one, and the mean sign that it follows, as metrics."""
    for name, network in networks.items():
        for module in network.modules():
            if isinstance(module, AugmentedDiscriminator) and module.settings.adaptive_target is not None:
                yield f"{name}/augment_probability", float(module.probability)
                yield f"{name}/real_sign", float(module.real_sign)


def _recoloured(image: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Values up to 0.5 higher or lower, then 0 to 2 times the saturation, then 0.5 to 1.5 times the contrast."""
    brightness, saturation, contrast = (one.view(-1, 1, 1, 1) for one in (brightness, saturation, contrast))
    image = image + (brightness - 0.5)
    grey = image.mean(dim=1, keepdim=True)
    image = grey + (image - grey) * (2 * saturation)
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (image - mean) * (contrast + 0.5)


def _shifts(numbers: Tensor, side: int) -> Tensor:
    """Whole pixels [N], evenly from -1/8 to 1/8 of ``side``."""
    farthest = int(side * _FARTHEST + 0.5)
    # a number close to 1 is rounded up to the next whole one
    return (numbers * (2 * farthest + 1)).long().clamp(max=2 * farthest) - farthest


def _shifted(image: Tensor, down: Tensor, right: Tensor) -> Tensor:
    _, channels, height, width = image.shape
    rows = torch.arange(height, device=image.device) - down[:, None]
    columns = torch.arange(width, device=image.device) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    image = image.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return image.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1)) * inside


def _cut(numbers: Tensor, side: int) -> Tensor:
    """Which of ``side`` pixels [N, side] lie in a stretch of half of them, whose middle is anywhere."""
    length = int(side * _CUT + 0.5)
    first = (numbers * (side + 1 - length % 2)).long()[:, None] - length // 2
    places = torch.arange(side, device=numbers.device)
    return (places >= first) & (places < first + length)
