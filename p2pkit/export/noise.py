"""The noise of an exported generator: what its dropouts and latents draw in translation, as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from p2pkit.contracts import ExportInput, Policy
from p2pkit.errors import ExportError
from p2pkit.inference.policy import infer, noise_seeds

Shape = tuple[int, ...]
"""Channels, height and width of a dropout's noise; the size of a latent."""


def drawn_noise(generator: nn.Module, source: Tensor, seeds: Sequence[int]) -> list[Tensor]:
    """The noise drawn as the images ``source`` [N, Cs, H, W] are translated, in the order in which it is drawn.

    For a dropout it is what it lets through (1) and drops (0), [N, C, h, w]; for a latent the vectors, [N, size].

    Raises:
        ExportError: a dropout acts on something else than feature maps [N, C, h, w].
    """
    drawn: list[Tensor] = []
    infer(generator, source, Policy(), seeds, drawn=drawn)
    for mask in drawn:
        if mask.dtype == torch.bool and mask.ndim != 4:
            raise ExportError(
                f"a dropout of this generator acts on values of shape {list(mask.shape)}; only the noise of feature "
                "maps [N, C, h, w] can be an input. Export it with --no-dropout"
            )
    return [mask.float() for mask in drawn]


def noise_shapes(generator: nn.Module, source: Tensor) -> list[Shape]:
    """The shape of all noise for one of the images ``source``; the errors are those of drawn_noise."""
    return [tuple(noise.shape[1:]) for noise in drawn_noise(generator, source, noise_seeds(0, len(source)))]


def noise_inputs(shapes: Sequence[Shape]) -> list[ExportInput]:
    """The inputs ``noise_0``, ``noise_1`` ... for noise of these shapes, whose height and width may change."""
    inputs = []
    for index, shape in enumerate(shapes):
        name, changing = f"noise_{index}", {0: "batch"}
        if shape[1:] not in ((), (1, 1)):
            changing |= {2: f"{name}_height", 3: f"{name}_width"}
        inputs.append(ExportInput(name, torch.rand(2, *shape), changing))
    return inputs


def describe_noise(shapes: Sequence[Shape], padded: Sequence[int]) -> list[dict[str, Any]]:
    """For the metadata: what each noise input is, its channels, and the part of a ``padded`` source's size that it has.

    Raises:
        ExportError: the size of a feature map does not follow from that of the image by division.
    """
    described: list[dict[str, Any]] = []
    for index, (channels, *size) in enumerate(shapes):
        name = f"noise_{index}"
        if not size:
            described.append({"name": name, "of": "latent", "values": channels})
            continue
        divisors = None if size == [1, 1] else [whole // part for whole, part in zip(padded, size, strict=True)]
        if divisors and [part * divisor for part, divisor in zip(size, divisors, strict=True)] != list(padded):
            raise ExportError(
                f"the noise of a dropout has {size[0]}x{size[1]} values for an image of {padded[0]}x{padded[1]}: "
                "nobody could know how much noise to give. Export it with --no-dropout"
            )
        described.append({"name": name, "of": "dropout", "channels": channels, "size_divided_by": divisors})
    return described
