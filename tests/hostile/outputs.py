"""What translations leave behind, and outputs whose places are no files."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from p2pkit.images.outputs import SIDECAR
from tests.conftest import Outcome
from tests.hostile.attacks import Attack
from tests.hostile.pictures import png, saved
from tests.hostile.translated import translate

LEFT = "an unfinished output"
PLACES = "a place of an output that is none"


def _killed(folder: Path, name: str = "a.png", begun: bool = True) -> Sequence[object]:
    """A translation that was killed while it wrote."""
    out = folder / "out"
    out.mkdir()
    (out / SIDECAR).write_text(json.dumps({"name": name}) + "\n" if begun else "")
    (out / f".{name}.77.part").write_bytes(bytes(99))
    (folder / "b.png").write_bytes(saved("PNG"))
    return translate(folder, folder / "b.png")


def _left(folder: Path, outcome: Outcome, expected: Sequence[str] = ()) -> None:
    assert sorted(each.name for each in (folder / "out").glob(".*.part")) == list(expected)


def _large(folder: Path, options: Sequence[object]) -> Sequence[object]:
    """A small file whose translation takes three megabytes."""
    (folder / "a.png").write_bytes(png(999, 999, pixels=zlib.compress(bytes(999 * 2998))))
    return translate(folder, folder / "a.png", *options)


def _at(folder: Path, kind: str, where: str) -> Sequence[object]:
    """Something that is no file, or no folder, where outputs go."""
    place = folder / where
    place.parent.mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(kind)
    (folder / "b.png").write_bytes(saved("PNG"))
    return translate(folder, folder / "b.png")


_ENDINGS: dict[str, Sequence[object]] = {
    "an array": ("--format", "npy"),
    "an array in tiles": ("--tile", 256, "--format", "npy"), "in tiles": ("--tile", 256),
}  # fmt: skip
ATTACKS = [
    Attack(LEFT, "is removed by the next translation", _killed, codes=(0,), settled=_left),
    Attack(LEFT, "of tiles", partial(_killed, name="a.tif"), codes=(0,), settled=_left),
    Attack(LEFT, "of a name that is not UTF-8", partial(_killed, name="a\udcff.png"), codes=(0,), settled=_left),
    Attack(
        LEFT, "of somebody else stays", partial(_killed, begun=False), codes=(0,),
        settled=partial(_left, expected=[".a.png.77.part"]),
    ),
    *(
        Attack(
            LEFT, f"on a disk that is full, {name}", partial(_large, options=options), ["cannot write"], disk=100_000,
            settled=_left,
        )
        for name, options in _ENDINGS.items()
    ),
]  # fmt: skip
ATTACKS += [
    Attack(PLACES, f"{kind} at {where}", partial(_at, kind=kind, where=where), codes=(0, 2))
    for where in ("out", "out/b.png", f"out/{SIDECAR}")
    for kind in ("fifo", "folder", "/dev/full", "/dev/zero", "/nowhere")
    if (kind, where) != ("folder", "out")
]
