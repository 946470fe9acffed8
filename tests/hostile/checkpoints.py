"""Files of checkpoints, and model files, that are not what their names say: special, cut, claiming or contradicting."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tests.conftest import NETWORKS, Outcome
from tests.hostile.attacks import Attack

MODEL = "model.safetensors"
CHECKPOINT = "checkpoints/step_00000001"
RECIPE = f"""
[run]
name = "small"
[data]
name = "procedural_facades"
size = 32
pairs = 2
test_pairs = 0
[loader]
workers = 0
[transform]
load_size = 32
crop_size = 16
{NETWORKS}
[train]
max_steps = 1
"""


@lru_cache
def _trained() -> Path:
    """A run of one step, made once."""
    import p2pkit

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "a.toml").write_text(RECIPE)
    p2pkit.train(folder / "a.toml", out=folder / "run", device="cpu")
    return folder / "run"


def _file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"1234567",
    "a length alone": struct.pack("<Q", 0),
    "a header of 2^64 bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header of a terabyte": struct.pack("<Q", 10**12) + b"{}",
    "a header one byte longer than the file": _file({}, length=3),
    "no JSON": _file(b"\xff\xfe\x00"),
    "a list": _file([1, 2]),
    "a number": _file(b"1e999"),
    "nothing": _file(b"null"),
    "lists in lists in lists": _file(b"[" * 200_000),
    "tables in tables": _file(b'{"a":' * 200_000),
    "a number of a million digits": _file(b'{"a": ' + b"9" * 10**6 + b"}"),
    "metadata that are a list": _file({"__metadata__": [1]}),
    "metadata that are numbers": _file({"__metadata__": {"p2pkit": 1}}),
    "a tensor that is text": _file({"a": "b"}),
    "a tensor without a type": _file({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "an unknown type": _file({"a": _tensor("F128")}, bytes(4)),
    "a type that is a list": _file({"a": _tensor(["F32"])}, bytes(4)),
    "a negative side": _file({"a": _tensor(shape=[-1])}, bytes(4)),
    "a side that is true": _file({"a": _tensor(shape=[True])}, bytes(4)),
    "a side of half": _file({"a": _tensor(shape=[0.5])}, bytes(4)),
    "a side of 2^70": _file({"a": _tensor(shape=[2**70])}, bytes(4)),
    "sides that overflow": _file({"a": _tensor(shape=[2**32, 2**32, 0], offsets=[0, 0])}),
    "sides of 64 GB": _file({"a": _tensor(shape=[2**34], offsets=[0, 2**36])}, bytes(4)),
    "a tensor beyond the end": _file({"a": _tensor(offsets=[4, 8])}, bytes(4)),
    "a tensor that ends before it begins": _file({"a": _tensor(offsets=[4, 0])}, bytes(4)),
    "three offsets": _file({"a": _tensor(offsets=[0, 4, 8])}, bytes(4)),
    "two tensors at one place": _file({"a": _tensor(), "b": _tensor()}, bytes(4)),
    "a hole": _file({"a": _tensor(), "b": _tensor(offsets=[8, 12])}, bytes(12)),
    "bytes behind the last tensor": _file({"a": _tensor()}, bytes(5)),
    "100,000 empty tensors": _file({str(number): _tensor(shape=[0], offsets=[0, 0]) for number in range(100_000)}),
    "a header of 12 MB": _file(b"{" + b" " * 12_000_000 + b"}"),
}
"""What a safetensors file may claim."""


def _special(kind: str, place: Path) -> None:
    """Put something in place of a file that is none."""
    if place.is_file():
        place.unlink()
    if kind == "FIFO":
        os.mkfifo(place)
    elif kind == "socket":
        former = Path.cwd()
        os.chdir(place.parent)  # the names of sockets are short
        try:
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(place.name)
        finally:
            os.chdir(former)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to({"link to itself": place, "link to nothing": place.parent / "nothing"}.get(kind, kind))


SPECIAL = ["FIFO", "socket", "folder", "link to itself", "link to nothing", "/dev/zero", "/dev/null", "/dev/full"]


def _with(name: str, change: Callable[[Path], Any], command: Sequence[str], folder: Path) -> list[object]:
    """A run one of whose files is changed, and a command on it or on that file."""
    run = folder / "run"
    shutil.copytree(_trained(), run)
    change(run / name)
    return [*(part.replace("RUN", str(run)) for part in command)]


def _nothing_renamed(name: str, folder: Path, outcome: Outcome) -> None:
    """What cannot be resumed stays as it is."""
    assert [place.name for place in (folder / "run" / "checkpoints").iterdir()] == [Path(CHECKPOINT).name]
    assert (folder / "run" / name).is_symlink() or (folder / "run" / name).exists()


RESUME, INSPECT = ["run", "--resume", "RUN"], ["inspect", f"RUN/{MODEL}", "--json"]
FAMILY = "files of checkpoints and models"
ATTACKS = []
for label, content in CONTENTS.items():
    write = partial(lambda content, file: file.write_bytes(content), content)
    ATTACKS.append(Attack(FAMILY, f"model, {label}", partial(_with, MODEL, write, INSPECT), [MODEL]))
for number, (label, content) in enumerate(CONTENTS.items()):
    write = partial(lambda content, file: file.write_bytes(content), content)
    name = f"{CHECKPOINT}/{('networks', 'optimizers')[number % 2]}.safetensors"
    # the checksum is right: only the structure can tell
    ATTACKS.append(
        Attack(
            FAMILY, f"checkpoint, {label}", partial(_with, name, write, RESUME), ["all checkpoints are damaged"],
            settled=partial(_nothing_renamed, name),
        )
    )  # fmt: skip
for kind in SPECIAL:
    change = partial(_special, kind)
    ATTACKS.append(Attack(FAMILY, f"model, {kind}", partial(_with, MODEL, change, INSPECT), [MODEL]))
    for name in ("progress.json", "networks.safetensors", "optimizers.safetensors"):
        place = f"{CHECKPOINT}/{name}"
        prepare = partial(_with, place, change, RESUME)
        ATTACKS.append(Attack(FAMILY, f"{name}, {kind}", prepare, [name], settled=partial(_nothing_renamed, place)))
