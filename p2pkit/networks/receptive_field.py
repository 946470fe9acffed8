"""The receptive field of a discriminator, found by gradient: the pixels that one logit depends on."""

from __future__ import annotations

import copy

import torch
from torch import nn

from p2pkit.contracts import DiscriminatorOutput

SIDE = 640
"""The side of the image that is looked at: fields beyond it count as the whole image."""


def receptive_field(discriminator: nn.Module, source_channels: int, target_channels: int) -> int | None:
    """The side in pixels of the square that a logit in the middle sees, at the first scale where there are several.

    The discriminator is looked at in evaluation mode. None when it is the whole image, and where it cannot be found: a
    discriminator without maps of logits for an image of any size, or without a gradient.
    """
    network = _without_norms(copy.deepcopy(discriminator)).double().eval()
    for parameter in network.parameters():
        # all positive, so that no two paths cancel
        parameter.data = parameter.data.abs() + 1e-3
    image = torch.ones(1, target_channels, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    source = torch.ones(1, source_channels, SIDE, SIDE, dtype=torch.float64)
    try:
        logits = DiscriminatorOutput.of(network(source, image)).logits[0]
        middle = logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2]
        (gradient,) = torch.autograd.grad(middle, image)
    except Exception:  # whatever a stranger's module may raise, of an image that is not what it is trained on
        return None
    seen = gradient[0].abs().sum(0).sum(1).nonzero()
    side = int(seen.max() - seen.min()) + 1 if len(seen) else SIDE
    return side if side < SIDE else None


def _without_norms(network: nn.Module) -> nn.Module:
    """``network`` with its norms taken out: through their statistics every pixel acts on every logit."""
    norms = nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm | nn.LayerNorm
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, norms):
                setattr(module, name, nn.Identity())
    return network
