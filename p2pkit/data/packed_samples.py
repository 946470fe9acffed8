"""Samples as bytes and back: any images as stored, several sources, masks, and what files say of their pixels.

One channel of an image comes after another, which is how tensors are made of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import Sample
from p2pkit.images.pixels import StoredPixels

ALIGNED = 16
"""Pixels begin at multiples of so many bytes, which all types of them are content with."""
LAYOUT = "channel by channel"
"""What samples in bytes are known by: those of another layout are not read."""
_LENGTH_BYTES = 12
"""Those of the length of the text, which stand before it; with the checksum before them it begins at ALIGNED."""
_SAID = ("bits", "nodata", "profile", "inverted", "taken")


def packed(sample: Sample) -> list[memoryview]:
    """A sample as pieces of bytes, to be written one after another, behind 4 bytes."""
    described, pixels = [], list[NDArray[Any]]()
    for side, image in _images(sample):
        said: dict[str, Any] = {}
        if isinstance(image, StoredPixels):
            said = {name: getattr(image, name) for name in _SAID}
            if image.indices is not None:
                described.append(["", image.indices.dtype.str, image.indices.shape, {}])
                pixels.append(image.indices)
        described.append([side, image.dtype.str, image.shape, said])
        pixels.append(np.asarray(image).transpose(2, 0, 1))
    text = json.dumps({"key": sample.key, "images": described}, default=np.generic.item).encode()
    text += b" " * (-len(text) % ALIGNED)
    pieces = [memoryview(len(text).to_bytes(_LENGTH_BYTES, "little") + text)]
    for each in pixels:
        pieces += [np.ascontiguousarray(each).reshape(-1).view(np.uint8).data, memoryview(bytes(_gap(each)))]
    return pieces


def unpacked(content: NDArray[np.uint8]) -> Sample:
    """The sample that :func:`packed` has made so; its pixels are parts of ``content``.

    Raises:
        ValueError, KeyError, TypeError: it has made none so.
    """
    begin = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    text = json.loads(content[_LENGTH_BYTES:begin].tobytes())
    sides, sources, indices = dict[str, Any](), dict[str, Any](), None
    for side, dtype, shape, said in text["images"]:
        if not side:
            indices = np.ndarray(shape, dtype, content, begin)
            begin += indices.nbytes + _gap(indices)
            continue
        height, width, channels = shape
        image = np.ndarray((channels, height, width), dtype, content, begin).transpose(1, 2, 0)
        begin += image.nbytes + _gap(image)
        if said:
            image = image.view(StoredPixels)
            vars(image).update(said, indices=indices)
            indices = None
        if side.startswith("source."):
            sources[side.removeprefix("source.")] = image
        else:
            sides[side] = image
    source = sources or sides.get("source")
    return Sample(source, sides.get("target"), text["key"], sides.get("mask"))


def _images(sample: Sample) -> Iterator[tuple[str, NDArray[Any]]]:
    if isinstance(sample.source, dict):
        for name, image in sample.source.items():
            yield f"source.{name}", image
    elif sample.source is not None:
        yield "source", sample.source
    for side in ("target", "mask"):
        if (found := getattr(sample, side)) is not None:
            yield side, found


def _gap(pixels: NDArray[Any]) -> int:
    return -pixels.nbytes % ALIGNED
