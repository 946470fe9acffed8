"""What one input may cost, in bytes and counts; ``p2pkit --limit NAME=VALUE`` raises it for a command and its workers.

Limits are kept in the environment, from where the processes that a command starts have them too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache

from p2pkit.errors import P2PKitError, did_you_mean

VARIABLE = "P2PKIT_LIMITS"
"""The variable of the environment that holds what is set, "image_bytes=64GB image_pages=100000"."""
_UNITS = {"": 1, "k": 10**3, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_VALUE = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)


class LimitError(P2PKitError):
    """A limit is set to what is none."""


@dataclass(frozen=True)
class Limits:
    """The limits and what they are unless they are set. Those in bytes are named so; the others are counts."""

    image_bytes: int = 2**30
    """What the pixels of an image or a volume may take, where that is more than 200 times its file."""
    image_pages: int = 10_000
    """How many pages of a TIFF, or frames of a DICOM file, are looked at."""
    jpeg_scans: int = 500
    """How many scans a progressive JPEG may be made of; each takes as long as its whole image."""


def limits() -> Limits:
    """The limits of this process."""
    return _parsed(os.environ.get(VARIABLE, ""))


def set_limits(settings: Iterable[str]) -> None:
    """Set limits for this process and those that it starts, by "NAME=VALUE" each: "image_bytes=64GB".

    Raises:
        LimitError: there is no such limit, or the value is no number.
    """
    settings = list(settings)
    if settings:
        text = " ".join([os.environ.get(VARIABLE, ""), *(each.replace(" ", "") for each in settings)]).strip()
        _parsed(text)
        os.environ[VARIABLE] = text


def over(name: str, needed: int) -> str:
    """What a message says of input that ``needed`` more than the limit ``name``, and how that is raised."""
    limit: int = getattr(limits(), name)
    in_bytes = name.endswith("bytes")
    rule = f"the limit {name} is {_readable(limit) if in_bytes else limit}"
    enough = _readable(needed, up=True) if in_bytes else needed
    return f"{rule}; if it is meant to be so, raise that: p2pkit --limit {name}={enough} COMMAND"


def _readable(value: int, up: bool = False) -> str:
    """A number of bytes as people write it, rounded up where it is to suffice."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= size:
            return f"{-(-value // size)}{unit}" if up else f"{value / size:.3g}{unit}"
    return str(value)


@lru_cache
def _parsed(text: str) -> Limits:
    names = [each.name for each in fields(Limits)]
    found = Limits()
    for setting in text.split():
        name, _, value = setting.partition("=")
        if name not in names:
            raise LimitError(
                f"--limit {setting}: there is no such limit{did_you_mean(name, names)} - {', '.join(names)}"
            )
        number = _VALUE.fullmatch(value)
        if number is None or number[2].lower() not in _UNITS:
            raise LimitError(f"--limit {setting}: expected {name}=NUMBER, such as 64GB, 500MB or 20000")
        found = replace(found, **{name: int(float(number[1]) * _UNITS[number[2].lower()])})
    return found
