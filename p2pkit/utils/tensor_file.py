"""Safetensors files by our own reading: regular files alone, patiently, hashed on the way, and in memory once.

Safetensors' own reading maps the file, so that an error of the disk is a signal that kills the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2pkit.utils.opening import limits, open_regular, over, patiently

if TYPE_CHECKING:
    from torch import Tensor

_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F16": "float16",
    "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
}  # fmt: skip
"""The types of safetensors, and torch's names of them."""


class DamagedFile(ValueError):  # noqa: N818 - named for what it says of the file
    """What is in a file is not what was written, or no safetensors at all."""


class Entry(NamedTuple):
    """A tensor in a file: its type by safetensors' name, its shape, and its place behind the header in bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Contents:
    """What a file says of itself: its size in bytes, the metadata, and the tensors in the order of their places."""

    size: int
    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]


def read_contents(file: Path) -> Contents:
    """What a file says of itself; the tensors are not read, and torch is not needed.

    Raises:
        DamagedFile: it is no safetensors file, or a part of one.
        IrregularFile, ReadError, OSError: it cannot be read (utils.opening).
    """

    def read() -> Contents:
        with open_regular(file) as stream:
            return _header(stream)[0]

    return patiently(read, file)


def read_tensors(file: Path, checksum: str | None = None) -> tuple[Contents, dict[str, Tensor]]:
    """What a file says of itself, and its tensors on the CPU; ``checksum`` is the SHA-256 that it is to have.

    Raises: as :func:`read_contents`; DamagedFile also where the checksum is another.
    """
    return patiently(partial(_read, file, checksum), file)


def _read(file: Path, checksum: str | None) -> tuple[Contents, dict[str, Tensor]]:
    import torch

    tensors: dict[str, Tensor] = {}
    with open_regular(file) as stream:
        contents, header = _header(stream)
        digest = hashlib.sha256(header)
        for name, entry in contents.entries.items():
            tensors[name] = tensor = torch.empty(entry.shape, dtype=getattr(torch, _TYPES[entry.dtype]))
            values = tensor.reshape(-1).view(torch.uint8).numpy().data
            if stream.readinto(values) != len(values):
                raise DamagedFile(f"{name} is cut short")
            digest.update(values)
    if checksum is not None and digest.hexdigest() != checksum:
        raise DamagedFile("its checksum is wrong")
    return contents, tensors


def _header(stream: BufferedReader) -> tuple[Contents, bytes]:
    """What a file says of itself, and the bytes that say it."""
    size = os.fstat(stream.fileno()).st_size
    head = stream.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > size - 8:
        raise DamagedFile("it is cut short, or no safetensors file")
    if length > limits().header_bytes:
        raise DamagedFile(f"its header takes {length} bytes; {over('header_bytes', length)}")
    text = stream.read(length)
    try:
        found: dict[str, Any] = json.loads(text)
        metadata = found.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("the metadata is no text")
        entries = sorted(((name, _entry(said)) for name, said in found.items()), key=lambda one: one[1][2:])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"its header is damaged: {str(error)[:200]}") from error
    places = [(0, 0), *((entry.begin, entry.end) for _, entry in entries), (size - 8 - length, 0)]
    if len(text) < length or any(end != begin for (_, end), (begin, _) in pairwise(places)):
        raise DamagedFile("it is cut short, or its header does not fit what follows")
    return Contents(size, metadata, dict(entries)), head + text


def _entry(said: Mapping[str, Any]) -> Entry:
    dtype, shape, (begin, end) = said["dtype"], said["shape"], said["data_offsets"]
    if dtype not in _TYPES or not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end)):
        raise ValueError(f"no tensor of type {dtype!r}, shape {shape} at {begin} to {end}")
    bits = re.search(r"\d+", dtype)
    if prod(filter(None, shape)) >= 2**60 or prod(shape) * (int(bits[0]) // 8 if bits else 1) != end - begin:
        raise ValueError(f"a tensor of shape {shape} at {begin} to {end}")
    return Entry(dtype, tuple(shape), begin, end)


def checksum(weights: Mapping[str, Tensor], text: str = "") -> str:
    """The SHA-256 of a text and of tensors on the CPU, in the order of their names."""
    from torch import uint8

    digest = hashlib.sha256(text.encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()
