"""The parameters of a request, out of its query: each of its type and within its bounds, or a 400 that says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from p2pkit.errors import did_you_mean
from p2pkit_web.answers import Refusal

Size = Literal["source", "model", "native"]
StoredAs = Literal["image", "side_by_side", "left", "right"]
LARGEST = 2**53
"""Numbers up to here are the same in JSON and in a browser."""
JOB = re.compile(r"[A-Za-z0-9-]{8,64}")
DESCRIBED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "model": ({"type": "string"}, "The id of a model, as GET /api/models lists them; the first unless given."),
    "seed": ({"type": "integer", "minimum": 0, "default": 0}, "The seed of the noise, of a model that draws some."),
    "size": ({"enum": list(get_args(Size))}, "As --size of p2pkit translate."),
    "as": ({"enum": list(get_args(StoredAs))}, "What the file is, as --as of p2pkit translate."),
    "tile": ({"type": "integer", "minimum": 1}, "Translate in tiles of so many pixels, as --tile."),
    "overlap": ({"type": "integer", "minimum": 0}, "Pixels that tiles share; an eighth of a tile unless given."),
    "format": ({"type": "string"}, "The ending of the output: png, tif, npy ...; that of p2pkit translate by default."),
    "crop": ({"type": "string"}, "The part of the source that is taken: left,top,width,height in pixels."),
    "name": ({"type": "string"}, "What the file is called, where the body is the file; some formats go by its ending."),
    "preview": ({"enum": ["1"]}, "An 8-bit PNG for the eye in place of the output in the model's own depth."),
    "job": ({"type": "string"}, "A name for this request, by which GET /api/progress knows it."),
}
"""What each parameter may be (JSON Schema), and what it is for."""


@dataclass(frozen=True)
class Parameters:
    """How an image is translated."""

    model: str | None = None
    seed: int = 0
    size: Size | None = None
    stored_as: StoredAs | None = None
    tile: int | None = None
    overlap: int | None = None
    format: str | None = None
    crop: tuple[int, int, int, int] | None = None
    name: str = "image"
    preview: bool = False
    job: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Parameters:
        """The parameters in a query. Raises Refusal for what is not one, or not of its kind."""
        for name in given:
            if name not in DESCRIBED:
                known = ", ".join(DESCRIBED)
                raise Refusal(400, f"there is no parameter {name[:100]!r}{did_you_mean(name, DESCRIBED)}", known)
        overlap, tile = _number(given, "overlap", 0, 1 << 20), _number(given, "tile", 1, 1 << 20)
        if overlap is not None and tile is None:
            raise Refusal(400, "overlap is of tiles", "give tile too")
        return cls(
            given.get("model"), _number(given, "seed", 0, LARGEST) or 0,
            cast(Any, _one_of(given, "size", get_args(Size))), cast(Any, _one_of(given, "as", get_args(StoredAs))),
            tile, overlap, _matched(given, "format", re.compile(r"\.?[A-Za-z0-9.]{1,12}"), "an ending such as png"),
            _crop(given), given.get("name") or "image", _one_of(given, "preview", ("1",)) is not None,
            _matched(given, "job", JOB, "8 to 64 letters, digits and dashes"),
        )  # fmt: skip


def _wrong(name: str, given: str, expected: str) -> Refusal:
    return Refusal(400, f"{name} = {given[:100]!r}", f"expected {expected}")


def _number(given: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text) or not least <= int(text) <= most:
        raise _wrong(name, text, f"a whole number from {least} to {most}")
    return int(text)


def _one_of(given: Mapping[str, str], name: str, known: tuple[str, ...]) -> str | None:
    text = given.get(name)
    if text is not None and text not in known:
        raise _wrong(name, text, f"one of {', '.join(known)}")
    return text


def _matched(given: Mapping[str, str], name: str, pattern: re.Pattern[str], expected: str) -> str | None:
    text = given.get(name)
    if text is not None and not pattern.fullmatch(text):
        raise _wrong(name, text, expected)
    return text


def _crop(given: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    text = given.get("crop")
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,7}),([0-9]{1,7}),([0-9]{1,7}),([0-9]{1,7})", text)
    if found is None or int(found[3]) == 0 or int(found[4]) == 0:
        raise _wrong("crop", text, "left,top,width,height in pixels")
    return int(found[1]), int(found[2]), int(found[3]), int(found[4])
