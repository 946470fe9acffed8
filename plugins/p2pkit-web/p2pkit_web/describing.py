"""What a page, or a program, has to know of a model: its sources and what can be drawn for them, what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from p2pkit.contracts import ValueRange
from p2pkit.images.class_maps import class_colours
from p2pkit.inference.in_memory import noisy
from p2pkit.networks.fitting import fitting_size
from p2pkit_web.models import Model

if TYPE_CHECKING:
    from p2pkit import Translator

USUAL_SIZE, USUAL_TILE = (256, 256), 512
PNG_BITS = {"uint8": 8, "uint16": 16}
"""Types of pixels that a page can write as a PNG, by their bits."""
MOST_CLASSES = 256


def summary(model: Model) -> dict[str, Any]:
    """A model that need not be loaded."""
    return {
        "id": model.id, "title": model.title, "there": model.there, "training": model.training,
        "version": model.stamp(),
    }  # fmt: skip


def described(model: Model, translator: Translator) -> dict[str, Any]:
    """All that a page needs of a model."""
    return {**summary(model), "version": model.version, **abilities(translator)}


def abilities(translator: Translator) -> dict[str, Any]:
    """What a model takes, what can be drawn for it, and what it gives."""
    header = translator.header
    height, width = header.size or header.source_size or USUAL_SIZE
    return {
        "step": header.step, "generator": header.generator,
        "data": header.data.partition(" ")[0],
        "sources": [_source(translator, number) for number in range(len(header.each_source))],
        "size": {"height": height, "width": width},
        "resized": header.resize is not None, "scale": header.scale, "noise": noisy(translator),
        "tile": max(fitting_size(translator.generator, (USUAL_TILE, USUAL_TILE))),
        "output": {
            "dtype": header.target_dtype, "channels": header.picture_channels,
            "range": range_of_outputs(translator),
        },
        "metrics": {name: value for name, value in header.metrics.items() if np.isfinite(value)},
    }  # fmt: skip


def _source(translator: Translator, number: int) -> dict[str, Any]:
    part, header = translator.parts[number], translator.header.each_source[number]
    drawing, bits = translator.header.drawings.get(header.name), PNG_BITS.get(header.dtype, 0)
    kind, classes = "photo", list[dict[str, Any]]()
    numbered = hasattr(part.encoding, "class_numbers") and header.channels == 1
    count = getattr(part.encoding, "classes", 0) if numbered else 0
    if drawing is not None and bits:
        kind = drawing.kind
        classes = [_class(each.name, [int(value) for value in each.values]) for each in drawing.classes]
    elif bits and 0 < count <= MOST_CLASSES:
        kind, classes = "labels", [_class(f"class {each}", [each]) for each in range(count)]
    return {
        "name": header.name, "kind": kind, "channels": header.channels, "bits": bits, "dtype": header.dtype,
        "range": list(header.values), "classes": classes,
    }  # fmt: skip


def _class(name: str, values: list[int]) -> dict[str, Any]:
    """A class with the colour that shows it: its own, or of a number one far from its neighbours'."""
    if len(values) >= 3:
        shown = values[:3]
    elif values[0] in (0, 255) and name in ("paper", "line"):
        shown = 3 * values[:1]
    else:
        colour = class_colours(torch.tensor([[[values[0]]]]))
        shown = [round((float(value) + 1) * 127.5) for value in colour.flatten()]
    return {"name": name, "values": values, "colour": "#" + "".join(f"{value:02x}" for value in shown)}


def range_of_files(values: ValueRange | None, channels: str | None) -> ValueRange | None:
    """The range of values as files have them, of a side of whose files ``channels`` are taken: none holds CIELAB."""
    return None if (channels or "").startswith("lab_") else values


def range_of_outputs(translator: Translator) -> ValueRange | None:
    """The same of outputs."""
    return range_of_files(translator.header.target_range, translator.header.target_reading.channels)


def for_the_eye(pixels: NDArray[Any], values: ValueRange | None) -> NDArray[np.uint8]:
    """Pixels [H, W, C] as 8 bits of 1 or 3 channels, from ``values`` (low, high) or what their type holds."""
    channels = 3 if pixels.shape[2] >= 3 else 1
    shown = np.asarray(pixels[:, :, :channels])
    if shown.dtype == np.uint8 and values is None:
        return shown
    whole = shown.dtype.kind in "iu"
    low, high = values or ((np.iinfo(shown.dtype).min, np.iinfo(shown.dtype).max) if whole else (0.0, 1.0))
    unit = (shown.astype(np.float32) - low) / (high - low)
    return np.asarray(np.nan_to_num(unit).clip(0, 1) * 255 + 0.5, dtype=np.uint8)
