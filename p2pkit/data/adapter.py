"""What data sets of other people give, as the samples, headers and fingerprints that p2pkit reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from p2pkit.contracts import NO_IMAGE, Sample, SampleHeader, Shape
from p2pkit.errors import DataError, Unavailable, in_one_line
from p2pkit.images.formats import ChannelsOfPalette
from p2pkit.images.pictures import image_pixels
from p2pkit.images.pixels import refuse_unclear
from p2pkit.utils.progress import Progress

Kind = Literal["pair", "source", "target"]
"""What a sample is: both images, or one side of an unpaired data set."""
FORMS: Mapping[Kind, str] = {
    "pair": "a Sample, a tuple (source, target), or a dict with the names source and target, and key and mask if you "
    "like",
    "source": "an image, or a Sample whose target is None, from an unpaired data set",
    "target": "an image, or a Sample whose source is None, from an unpaired data set",
}
IMAGES = "a NumPy array [H, W] or [H, W, C], a PIL image, or a torch tensor [H, W] or [C, H, W]"
LOOKED_AT = 64
"""How many samples a fingerprint is made of."""


def as_sample(given: Any, kind: Kind, key: str, place: str) -> Sample:
    """What a data set has ``given`` as a Sample of arrays [H, W, C]; ``key`` is its key where it has none.

    Raises:
        DataError: it is not of a form that p2pkit takes; the message begins with ``place``, the call that gave it.
    """
    fields = _fields(given, kind, place)
    own = fields.get("key")
    if own is not None and not isinstance(own, str | int | PurePath):
        raise DataError(f"{place} gives a {_type(own)} as its key, expected text; a sample is {FORMS[kind]}")
    images: dict[str, Any] = {}
    for side in ("source", "target"):
        image, wanted = fields.get(side), kind in ("pair", side)
        if (image is not None) != wanted:
            raise DataError(f"{place} gives {'no' if wanted else 'a'} {side}, expected {FORMS[kind]}")
        if isinstance(image, Mapping) and side == "source":
            images[side] = _sources(image, place)
        else:
            images[side] = as_pixels(image, f"{place} gives as its {side}") if wanted else None
    if (mask := fields.get("mask")) is not None:
        if kind != "pair":
            raise DataError(f"{place} gives a mask, and unpaired data has none; expected {FORMS[kind]}")
        images["mask"] = as_pixels(mask, f"{place} gives as its mask")
    return Sample(**images, key=key if own in (None, "") else _printable(str(own)))


def _sources(images: Mapping[Any, Any], place: str) -> dict[str, NDArray[Any]]:
    """Several sources by name."""
    if not images:
        raise DataError(f"{place} gives a dict without sources, expected images by name")
    for name in images:
        if not isinstance(name, str) or not name or "." in name:
            raise DataError(f"{place} gives a source with the name {name!r}, expected text without dots")
    return {name: as_pixels(image, f"{place} gives as its source {name}") for name, image in images.items()}


def _printable(key: str) -> str:
    """A key with an escape for what no file of text takes: of a file's name, bytes that are not UTF-8."""
    try:
        return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return key.encode("utf-8", "backslashreplace").decode("utf-8")


def _fields(given: Any, kind: Kind, place: str) -> Mapping[str, Any]:
    """Images and key by their names."""
    if kind != "pair" and isinstance(given, np.ndarray | Tensor | Image.Image):
        return {kind: given}
    if isinstance(given, Mapping) and not given.keys() - set(Sample._fields):
        return given
    if isinstance(given, tuple | list) and len(given) in (2, 3, 4):
        return dict(zip(Sample._fields, given, strict=False))
    found = f"a {_type(given)}"
    if isinstance(given, Mapping):
        found = f"a dict with the names {', '.join(map(str, given))}"
    elif isinstance(given, tuple | list):
        found += f" of {len(given)} ({', '.join(map(_type, given))})"
    more = '; several sources are a dict of images by name, as "source"' if isinstance(given, Mapping) else ""
    raise DataError(f"{place} gives {found}, expected {FORMS[kind]}{more}")


def _type(value: Any) -> str:
    return type(value).__name__


def as_pixels(image: Any, place: str) -> NDArray[Any]:
    """An image of any form as an array [H, W, C] of the values that it has.

    Raises:
        DataError: it is not an image, cannot be decoded, or is empty or complex; the message begins with ``place``.
    """
    if isinstance(image, np.ndarray | Tensor):
        refuse_unclear(image, f"{place} a {_type(image)}")
    try:
        pixels = _array(image)
    except Exception as error:  # a file that is read only now, a tensor of a type that NumPy does not know
        raise DataError(f"{place} a {_type(image)} that cannot be read: {in_one_line(error)}") from error
    if pixels is None:
        raise DataError(f"{place} a {_type(image)}, expected {IMAGES}")
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or not pixels.size:
        found = f"a {_type(image)} of shape {tuple(getattr(image, 'shape', pixels.shape))}"
        raise DataError(f"{place} {found}, expected one image, which is not empty: {IMAGES}")
    if pixels.dtype.kind not in "iufb":
        raise DataError(f"{place} values of type {pixels.dtype}, expected integers, floats or bool")
    return pixels


def _array(image: Any) -> NDArray[Any] | None:
    if isinstance(image, np.ndarray):
        return image.data if isinstance(image, np.ma.MaskedArray) else image
    if isinstance(image, Image.Image):
        return np.asarray(image) if image.mode in ("I", "F") else image_pixels(image)
    if isinstance(image, Tensor):
        values = image.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        return (values.permute(1, 2, 0) if values.ndim == 3 else values).numpy()
    return None


def as_header(given: Any, kind: Kind, key: str, place: str) -> SampleHeader:
    """What a data set has ``given`` as a header, with NO_IMAGE for the side that there is not.

    Raises:
        DataError: it is not a SampleHeader of shapes (height, width, channels); the message begins with ``place``.
    """
    shapes: dict[str, Shape] = {}
    for side in ("source", "target", "mask"):
        shape = getattr(given, side, NO_IMAGE if side == "mask" else ()) if kind in ("pair", side) else NO_IMAGE
        try:
            height, width, channels = tuple(shape)
            # an int of a class of its own says what it counts
            of_palette = isinstance(channels, ChannelsOfPalette)
            shapes[side] = int(height), int(width), channels if of_palette else int(channels)
        except (TypeError, ValueError) as error:
            expected = f"a SampleHeader whose {side} is (height, width, channels)"
            raise DataError(f"{place} gives {given!r}, expected {expected}") from error
    name = _printable(str(getattr(given, "key", ""))) or key
    if parts := getattr(given, "parts", ()):
        height, width, _ = shapes["source"]
        try:
            sources = {str(one): (height, width, channels) for one, channels in parts}
        except (TypeError, ValueError) as error:
            made = "make it by SampleHeader.of_sources"
            raise DataError(f"{place} gives the parts {parts!r}, expected names and channels; {made}") from error
        return SampleHeader.of_sources(sources, shapes["target"], name, shapes["mask"])
    return SampleHeader(shapes["source"], shapes["target"], name, shapes["mask"])


def fingerprint_of_content(read: Callable[[int], Sample], count: int, looked_at: int = LOOKED_AT) -> str:
    """A digest of ``count`` and of the content of ``looked_at`` samples, evenly spread; ``read`` gives the one at an
    index."""
    digest = hashlib.sha256(str(count).encode())
    places = sorted({place * (count - 1) // max(1, looked_at - 1) for place in range(looked_at)})
    with Progress("reading samples for the fingerprint", len(places), "sample") as progress:
        for place in places:
            digest.update(_content(read, place))
            progress.advance()
    return digest.hexdigest()[:16]


def _content(read: Callable[[int], Sample], place: int) -> bytes:
    try:
        sample = read(place)
    except Unavailable:
        raise
    except DataError as error:  # reported, or skipped, where the sample is needed
        return str(error).encode()
    content = sample.key.encode()
    sources = sample.source if isinstance(sample.source, dict) else {"": sample.source}
    for name, image in {**sources, " target": sample.target, " mask": sample.mask}.items():
        if isinstance(image, np.ndarray):
            content += name.strip().encode() if name in sources else b""
            content += repr((image.shape, image.dtype.str)).encode() + np.ascontiguousarray(image).tobytes()
    return content
