"""Targets that are the colours of pictures alone, whose lightness is a source."""

from __future__ import annotations

from p2pkit.data.sets import Data
from p2pkit.errors import RecipeError
from p2pkit.images.channels import EVERYTHING
from p2pkit.images.lab import Colours
from p2pkit.settings import LAB_AB


def colours_of(data: Data) -> Colours | None:
    """How outputs and targets become pictures; None where they are pictures themselves.

    Raises:
        RecipeError: no source is the lightness, or it is of fewer pixels than the colours.
    """
    taking, first = data.train.taking, data.first.header
    sources = []
    for name, channels in first.parts or (("", first.source[2]),):
        side = f"source.{name}".rstrip(".")
        taken = taking.get(side, taking.get("source", EVERYTHING)).channels
        sources.append((taken, channels, data.value_range(side)))
    try:
        colours = Colours.of(taking.get("target", EVERYTHING).channels, data.value_range("target"), sources)
    except ValueError as error:
        raise RecipeError(f'target.channels: {error}; set channels = "lab_L" below [source]') from error
    if colours and data.spec.scale > 1:
        raise RecipeError(
            f'target.channels = "{LAB_AB}": targets are {data.spec.scale} times as high and wide as sources, whose '
            "lightness has fewer pixels; give photos of one size"
        )
    return colours
