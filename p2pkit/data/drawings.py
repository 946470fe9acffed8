"""What people could draw in place of a source: label maps and their classes, or edges; found by a look at a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from p2pkit.data.sets import Data
from p2pkit.errors import DataError, visible
from p2pkit.networks.label_classes import MOST_CLASSES, ColourCount

LOOKED_AT = 32
"""Of so many sources of the train set the colours are taken, once the first looks like a drawing."""
LARGEST = 256
"""Pixels of a side that are looked at; of larger images every second one, or every third ..."""
NEAR = 32
"""Pixels of edges are this near to black or white, but for a few where a line is smooth."""
SHARP, MOSTLY_PAPER = 0.85, 0.7
"""The shares of pixels of edges that are near to black or white, and that are paper."""


class Drawing(NamedTuple):
    """A kind of drawing, and its classes: the stored values of each by its name. Of edges: paper, then line."""

    kind: Literal["labels", "edges"]
    classes: Mapping[str, Sequence[float]]
    named: bool = False
    """Whether the data set itself names them."""


def drawing_of(data: Data, source: str = "") -> Drawing | None:
    """What could be drawn for a source, one of several by its name; None where that is neither labels nor edges.

    Classes are those that the data set names, or the colours of its first sources, called by these.
    """
    if not source and (named := _named(data)):
        return Drawing("labels", named, named=True)
    first = _few(data.first.image(f"source.{source}") if source else data.first.source)
    if first is None:
        return None
    if (edges := _edges(first)) is not None:
        return edges
    if not _looks_like_labels(first):
        return None
    colours = ColourCount()
    for place in range(min(len(data.train), LOOKED_AT)):
        try:
            sample = data.train.read(place * len(data.train) // min(len(data.train), LOOKED_AT))
        except DataError:  # checks of the data report it
            continue
        pixels = _few(sample.image(f"source.{source}") if source else sample.source)
        if pixels is not None and pixels.shape[2] == first.shape[2]:
            colours.add(torch.from_numpy(pixels.transpose(2, 0, 1) / 255))
    try:
        found = colours.classes()
    except DataError:
        return None
    coloured = zip(found.names, found.colours, strict=True)
    classes = {name: [round(255 * value) for value in colour] for name, colour in coloured}
    return Drawing("labels", classes) if len(classes) > 1 else None


def _named(data: Data) -> Mapping[str, Sequence[float]]:
    """The classes that the data set names; none where these are no colours of its sources, but mean something else."""
    given = data.train.classes if isinstance(data.train.classes, Mapping) else {}
    found = {visible(str(name))[:200]: np.atleast_1d(values) for name, values in given.items()}
    channels = data.first.header.source[2]
    if not 1 < len(found) <= MOST_CLASSES or any(
        values.shape != (channels,) or values.dtype.kind not in "iuf" or values.min() < 0 or values.max() > 65535
        for values in found.values()
    ):
        return {}
    return {name: values.tolist() for name, values in found.items()}


def _few(image: Any) -> NDArray[np.uint8] | None:
    """Pixels of an image of 8 bits that people see as one, at most LARGEST each way; None of any other."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        return None
    step = -(-max(image.shape[:2]) // LARGEST)
    return np.ascontiguousarray(np.asarray(image)[::step, ::step])


def _edges(pixels: NDArray[np.uint8]) -> Drawing | None:
    """Dark lines on white or the other way round, where an image is that."""
    low, high = pixels.min(2), pixels.max(2)
    dark, light = float((high <= NEAR).mean()), float((low >= 255 - NEAR).mean())
    if min(dark, light) == 0 or dark + light < SHARP or max(dark, light) < MOSTLY_PAPER:
        return None
    paper, line = (0, 255) if dark > light else (255, 0)
    channels = pixels.shape[2]
    return Drawing("edges", {"paper": [paper] * channels, "line": [line] * channels})


def _looks_like_labels(pixels: NDArray[np.uint8]) -> bool:
    colours = ColourCount()
    colours.add(torch.from_numpy(pixels.transpose(2, 0, 1) / 255))
    try:
        return colours.exact or len(colours.classes().names) > 0
    except DataError:
        return False
