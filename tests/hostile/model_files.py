"""Model files whose checksums are right, and whose values are not what they may be."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.hostile.attacks import MB, Attack
from tests.hostile.spoilt import (
    evaluate,
    export,
    filled,
    header,
    inspect,
    named,
    of_text,
    said,
    translate,
    weights,
    without,
)
from tests.model_files import described, sealed

FAMILY = "model files by value"
FILES = "model files that are none"
NAN, INFINITE = float("nan"), float("inf")
DEEP: Any = []
for _ in range(400):
    DEEP = [DEEP]

INSPECTED: dict[str, Sequence[Any]] = {
    "generator": ("", "x" * 300, "\x1b]0;owned\x07", "two\nlines", "\u202eevil", 5, None, ["unet"]),
    "distribution": ("evil; rm -rf ~", "--index-url=http://evil", "a b", "p2pkit\n", "$(id)", "-e", "x" * 200, 1, None),
    "distribution_version": ("1; id", "\x1b[2J", "", 0.1, "1" * 200),
    "parameters": ([], "depth=4", {"depth\n": 4}, {"depth": NAN}, {"a": {"b": [INFINITE]}}, {"a": DEEP}),
    "source_channels": (0, -3, 3.5, "3", True, 2**64, None),
    "target_channels": (0, 10**9, "3"),
    "source_dtype": ("", "object", "O", "V8", "complex64", "uint8; import os", "datetime64", "S100", 8, "uint24"),
    "target_dtype": ("", "object", "U1000000", "float128", "int64"),
    "source_range": (
        [1, 0],
        [0, 0],
        [NAN, 1],
        [0, INFINITE],
        [0, 1e-60],
        [0, 1e300],
        [0],
        [0, 1, 2],
        "auto",
        [-1e308, 1e308],
    ),
    "target_range": ([255, 0], [INFINITE, INFINITE], ["0", "1"]),
    "source_nodata": (NAN, INFINITE, "none", [0]),
    "source_fill": (NAN, "0"),
    "source_reading": (
        {"channels": "first 0"},
        {"channels": "all"},
        {"alpha": "#gg0000"},
        {"mapping": "cubic"},
        {"ranges": [[0, 1]]},
        {"ranges": [[1, 0]] * 3},
        {"mapping": "logarithmic", "ranges": [[0, 1]] * 3},
        {"resampling": "lanczos"},
        {"mask": "all"},
        [],
        {"palette": "\x1b[31m"},
    ),
    "sources": ([{"name": "a", "channels": 3, "dtype": "uint8"}], [{"name": "", "channels": 3, "dtype": "uint8"}], 3),
    "target_ending": ("../../x", ".png/../x", ".\x1b[2J", "png", ". png", "." + "x" * 100),
    "encoding": (
        {"name": "one_hot"},
        "one_hot",
        {"name": "one_hot", "parameters": {}, "distribution": "a b", "distribution_version": "0"},
    ),
    "discriminator": (
        {"name": "patchgan"},
        "patchgan",
        {"name": "\x1b[2J", "parameters": {}, "distribution": "a", "distribution_version": "0"},
        {"name": "patchgan", "parameters": {"width": NAN}, "distribution": "a", "distribution_version": "0"},
        {"name": "patchgan", "parameters": DEEP, "distribution": "a", "distribution_version": "0"},
    ),
    "size": ([0, 256], [-1, -1], [256], [2**40, 2**40], "256"),
    "scale": (0, -1, 10**9, 1.5, None),
    "resize": (
        {"size": [10**8, 10**8]},
        {"size": [0, 0]},
        {"size": [8192, 8192]},
        {"size": [8, 8], "keep_aspect": "yes"},
        [8, 8],
    ),
    "stored_as": ("top half", "left half\n", 1),
    "planes": (
        {"axis": 3},
        {"axis": -1},
        {"axis": 0, "neighbours": 10**9},
        {"axis": 0, "neighbours": 2},
        {"axis": 0, "orientation": "XYZ"},
    ),
    "policy": ({"norm": "none"}, {"dropout": "no"}, "sample", None, {"norm": ["sample"]}),
    "init_from": (
        {"path": "a", "step": -1, "sha256_of_weights": "0" * 64},
        {"path": "a", "step": 1, "sha256_of_weights": "x"},
    ),
    "recipe": (5, "x" * 20_000_000, ["a"]),
    "data": (None, {}),
    "step": (-1, 1.5, "7", 10**30),
    "metrics": ({"a\x1b[2J": 1}, {"psnr": "high"}, [1], {"psnr": {}}),
}
"""Values that a field of the header may not have."""


def _raw(head: Mapping[str, Any] | bytes, length: int | None = None, data: bytes = b"") -> Callable[[Path], object]:
    """A safetensors file, byte by byte."""

    def spoil(file: Path) -> None:
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)

    return spoil


def _of_many_tensors(file: Path) -> None:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    said = {"p2pkit": sealed(described(file))}
    _raw({"__metadata__": said, **{f"{number:0100}": entry for number in range(80_000)}})(file)


def _sparse(file: Path) -> None:
    """A file of 200 MB that holds nothing, whose header says that it is one."""
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", 90_000_000) + b"{")
        stream.truncate(200_000_000)


def _value_attacks() -> list[Attack]:
    found = []
    for name, values in INSPECTED.items():
        for index, value in enumerate(values):
            # those that take memory to hold a text are no harm of the program
            memory = 600 * MB if name == "recipe" else 300 * MB
            found.append(
                Attack(
                    FAMILY,
                    f"{name} = {named(value)} ({index})",
                    partial(inspect, spoil=header(name, value)),
                    ["model.safetensors"],
                    memory=memory,
                )
            )
    return found


ATTACKS = _value_attacks()
ATTACKS += [
    Attack(FAMILY, f"no {name}", partial(inspect, spoil=without(name)), ["header of the model file", name])
    for name in ("generator", "parameters", "distribution", "source_channels", "target_dtype")
]
ATTACKS += [
    Attack(FAMILY, f"format version {value!r}", partial(inspect, spoil=said(format_version=value)), [says])
    for value, says in (
        (0, "format version"),
        (-1, "format version"),
        (1.5, "format version"),
        ("2", "format version"),
        (True, "format version"),
        (None, "format version"),
        (99, "Upgrade"),
        (10**40, "Upgrade"),
    )
]
ATTACKS += [
    Attack(FAMILY, f"a header that is {called}", partial(inspect, spoil=of_text(text)), ["header of the model file"])
    for called, text in (
        ("no JSON", "{"),
        ("a list", "[]"),
        ("a number", "7"),
        ("null", "null"),
        ("deep", "[" * 100_000),
        ("deep and closed", "[" * 5000 + "]" * 5000),
        ("a long number", '{"format_version": ' + "9" * 5000 + "}"),
        ("of half a character", '{"format_version": 1, "header": {"generator": "\\ud800"}}'),
        ("empty", ""),
        ("of another table", '{"format_version": 1, "header": 5}'),
    )
]
ATTACKS += [
    Attack(
        FAMILY,
        "inspect --json of metrics that are not finite",
        codes=(0,),
        prepare=lambda folder: inspect(folder, header("metrics", {"psnr": INFINITE, "ssim": NAN}), "--json"),
    ),
    Attack(
        FAMILY,
        "inspect --json of a damaged file",
        lambda folder: inspect(folder, header("step", -1), "--json"),
        ["step"],
    ),
    Attack(
        FAMILY,
        "controls in data",
        lambda folder: inspect(folder, header("data", "\x1b]0;a\x07\x9b2J\u202e")),
        codes=(0,),
    ),
    Attack(
        FAMILY,
        "controls in the recipe",
        codes=(0,),
        prepare=lambda folder: inspect(folder, header("recipe", 'a = "\x1b[2J\u202e"\r\n'), "--recipe"),
    ),
    Attack(
        FAMILY,
        "controls in the path of init_from",
        codes=(0,),
        prepare=lambda folder: inspect(
            folder, header("init_from", {"path": "\x1b[2J", "step": 1, "sha256_of_weights": "0" * 64})
        ),
    ),
    Attack(
        FAMILY,
        "a checksum of the weights that is a number",
        lambda folder: inspect(folder, said(sha256_of_the_weights=5)),
        ["sha256_of_the_weights"],
    ),
    Attack(
        FAMILY,
        "weights for another checksum",
        lambda folder: translate(folder, said(sha256_of_the_weights="0" * 64)),
        ["the weights are damaged"],
    ),
    Attack(
        FAMILY,
        "no checksum of the weights in format 2",
        lambda folder: translate(folder, said(sha256_of_the_weights=None)),
        ["sha256_of_the_weights"],
    ),
]
ATTACKS += [
    Attack(
        FAMILY,
        f"{command} weights that are {value}",
        partial(prepare, spoil=weights(filled(value))),
        ["NaN or infinite"],
    )
    for command, prepare in (("translate", translate), ("export", export))
    for value in (NAN, INFINITE, -INFINITE)
]
ATTACKS += [
    Attack(FAMILY, f"translate weights that {called}", partial(translate, spoil=weights(alter)), says)
    for called, alter, says in (
        ("lack one", lambda weights: weights.pop(next(iter(weights))), ["cannot be rebuilt"]),
        ("are one more", lambda weights: weights.update(other=torch.zeros(3)), ["cannot be rebuilt"]),
        ("are none", lambda weights: weights.clear(), ["cannot be rebuilt"]),
        ("have a name with controls", lambda weights: weights.update({"\x1b[2J\u202e": torch.zeros(1)}), ["rebuilt"]),
        ("are complex", lambda weights: weights.update(c=torch.zeros(2, dtype=torch.complex64)), ["C64"]),
    )
]
ATTACKS += [
    Attack(FILES, called, partial(inspect, spoil=spoil), ["model.safetensors"])
    for called, spoil in (
        ("empty", lambda file: file.write_bytes(b"")),
        ("of seven bytes", lambda file: file.write_bytes(b"\x01" * 7)),
        ("a header of 2^63 bytes", _raw(b"{}", 2**63)),
        ("a header of 99 MB in few bytes", _raw(b"{}", 99_000_000)),
        ("a header of 90 MB", _sparse),
        ("a header of many tensors", _of_many_tensors),
        ("a header of spaces", _raw(b" " * 1000)),
        ("a tensor beyond the end", _raw({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}})),
        (
            "a tensor of 2^64 values",
            _raw({"a": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 4]}}, data=bytes(4)),
        ),
        (
            "tensors over one another",
            _raw(
                {
                    "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                    "b": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                },
                data=bytes(4),
            ),
        ),
        ("a negative offset", _raw({"a": {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]}}, data=bytes(4))),
        (
            "a type of tensors that is none",
            _raw({"a": {"dtype": "X9", "shape": [4], "data_offsets": [0, 4]}}, data=bytes(4)),
        ),
        (
            "tensors of 8 bits",
            _raw(
                {
                    "__metadata__": {"p2pkit": "{}"},
                    "a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
                },
                data=bytes(4),
            ),
        ),
        ("no metadata", _raw({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, data=bytes(4))),
        ("metadata that are no text", _raw({"__metadata__": {"p2pkit": 5}})),
        ("deep JSON", _raw(b"[" * 100_000)),
        ("a pickle", lambda file: torch.save({"a": torch.zeros(1)}, file)),
        ("a device", lambda file: (file.unlink(), file.symlink_to("/dev/zero"))),
        ("a loop of links", lambda file: (file.unlink(), file.symlink_to(file))),
    )
]
RECIPES = {
    "no TOML": "[[[",
    "controls": 'a = "\x1b[2J"',
    "a number for a section": "data = 5",
    "a list for run": "run = [1]",
    "deep": "a = " + "[" * 20_000,
    "a text for a source": 'source = "x"\n[data]\nname = "paired_folders"',
    "no data": "[run]\nname = 'x'",
    "tables for data": "[[data]]\nname = 'x'",
    "metrics that are numbers": "metrics = [1, 2]",
}
ATTACKS += [
    Attack("recipes in model files", f"evaluate {called}", partial(evaluate, spoil=header("recipe", text)))
    for called, text in RECIPES.items()
]
ATTACKS.append(
    Attack(
        "recipes in model files",
        "inspect controls",
        lambda folder: inspect(folder, header("recipe", RECIPES["controls"]), "--recipe"),
        codes=(0,),
    )
)
