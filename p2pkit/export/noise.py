"""The noise of an exported generator: what its layers draw in translation, as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from p2pkit.contracts import Policy
from p2pkit.errors import ExportError
from p2pkit.export.contract import ExportInput
from p2pkit.inference.policy import Drawn, infer


def drawn_noise(generator: nn.Module, source: Tensor, seeds: Sequence[int]) -> Drawn:
    """The noise drawn as the images ``source`` [N, Cs, H, W] are translated, as an exported generator takes it.

    For a "dropout" it is what it lets through (1) and drops (0), [N, C, h, w]; for a "latent" the vectors, [N, size];
    for "spatial" noise the values, [N, C, h, w].

    Raises:
        ExportError: a dropout acts on something else than feature maps [N, C, h, w].
    """
    drawn: Drawn = []
    infer(generator, source, Policy(), seeds, drawn=drawn)
    for one in drawn:
        if one.kind == "dropout" and one.values.ndim != 4:
            raise ExportError(
                f"a dropout of this generator acts on values of shape {list(one.values.shape)}; only the noise of "
                "feature maps [N, C, h, w] can be an input. Export it with --no-dropout"
            )
    return [one._replace(values=one.values.float()) for one in drawn]


def noise_inputs(drawn: Drawn) -> list[ExportInput]:
    """The inputs ``noise_0``, ``noise_1`` ... for noise like what was ``drawn``, whose height and width may change."""
    inputs = []
    for index, noise in enumerate(one.values for one in drawn):
        name, changing = f"noise_{index}", {0: "batch"}
        if noise.shape[2:] not in ((), (1, 1)):
            changing |= {2: f"{name}_height", 3: f"{name}_width"}
        inputs.append(ExportInput(name, noise, changing))
    return inputs


def describe_noise(drawn: Drawn, padded: Sequence[int]) -> list[dict[str, Any]]:
    """For the metadata: what each noise input is, its layer, channels, and size by that of the ``padded`` source.

    Raises:
        ExportError: the size of a feature map does not follow from that of the image by division or multiplication.
    """
    described: list[dict[str, Any]] = []
    for index, (kind, noise, layer, dropped) in enumerate(drawn):
        about, (channels, *size) = {"name": f"noise_{index}", "of": kind, "layer": layer}, noise.shape[1:]
        if kind == "dropout":
            about["dropped"] = dropped
        if not size:
            described.append({**about, "values": channels})
            continue
        larger = size[0] > padded[0]
        wholes, parts = (size, padded) if larger else (padded, size)
        factors = None if size == [1, 1] else [whole // part for whole, part in zip(wholes, parts, strict=True)]
        if factors and [part * factor for part, factor in zip(parts, factors, strict=True)] != list(wholes):
            raise ExportError(
                f"{kind} noise has {size[0]}x{size[1]} values for an image of {padded[0]}x{padded[1]}: nobody could "
                "know how much noise to give. Export it with --no-dropout"
            )
        by = "size_multiplied_by" if larger else "size_divided_by"
        described.append({**about, "channels": channels, by: factors})
    return described
