"""What controls a terminal, or turns the order of what is read there, in all that a message may show."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.conftest import Outcome, save, untrained_model
from tests.hostile.attacks import Attack

FAMILY = "text that controls a terminal"
EVIL = {
    "colours": "\x1b[8mx\x1b[0m",
    "a title": "\x1b]0;x\x07",
    "a link": "\x1b]8;;http://x\x1b\\y",
    "a cleared screen": "\x1b[2J\x1b[H",
    "an eight-bit escape": "\x9b31mx",
    "backspaces": "x\b\b\bError",
    "a line written over": "x\rdone: y",
    "turned letters": "x\u202ey",
    "isolated letters": "x\u2066y\u2069",
    "a delete": "x\x7f",
}
DATA = '[data]\nname = "procedural_facades"\n'
Prepare = Callable[[Path, str], list[object]]


def _recipe(folder: Path, text: str, *options: object) -> list[object]:
    (folder / "r.toml").write_text(text, encoding="utf-8")
    return ["show", folder / "r.toml", *options]


def _toml(text: str) -> str:
    """A TOML text, in which nothing but ASCII stands."""
    return json.dumps(text)


def _file(folder: Path, evil: str) -> list[object]:
    return ["show", folder / f"{evil.replace('/', '')}.toml"]


def _parent(folder: Path, evil: str) -> list[object]:
    return _recipe(folder, f"extends = {_toml(evil)}\n")


def _damaged_image(folder: Path, evil: str) -> list[object]:
    for side in ("source", "target"):
        save(folder / "pairs" / side / "a.png", np.zeros((8, 8, 3), np.uint8))
        (folder / "pairs" / side / f"{evil.replace('/', '')}.png").write_bytes(b"no image")
    recipe = f'[data]\nname = "paired_folders"\nroot = "{folder / "pairs"}"\n'
    (folder / "r.toml").write_text(recipe)
    return ["check", folder / "r.toml"]


def _list(folder: Path, evil: str) -> list[object]:
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["source", "target", evil], [f"{evil}.png", "b.png", "c"]])
    return _data(folder, '[data]\nname = "paired_folders"\nroot = "."\nlist = "list.csv"\n')


def _data(folder: Path, recipe: str) -> list[object]:
    (folder / "r.toml").write_text(recipe)
    return ["check", folder / "r.toml"]


def _model(folder: Path, evil: str, *options: str) -> list[object]:
    file = untrained_model(folder / "m.safetensors", "unet", depth=3, width=4)
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    key = next(iter(header["__metadata__"]))
    described = json.loads(header["__metadata__"][key])
    header["__metadata__"][key] = json.dumps({**described, "distribution": evil, "recipe": f"# {evil}\n"})
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    return ["inspect", *options, file]


def _plugin(folder: Path, body: str, name: str = "evil", distribution: str = "evil") -> list[object]:
    (folder / "evil").mkdir()
    (folder / "evil" / "pyproject.toml").write_text(
        f"[project]\nname = {_toml(distribution)}\nversion = '1'\n"
        f'[project.entry-points.p2pkit]\n{_toml(name)} = "evil_module"\n'
    )
    (folder / "evil" / "evil_module.py").write_text(body)
    return ["--plugins-dir", folder / "evil", "plugins"]


@contextmanager
def _forgotten(folder: Path) -> Iterator[None]:
    """Let the next attack import its own."""
    yield
    sys.modules.pop("evil_module", None)


PLACES: dict[str, tuple[Prepare, tuple[int, ...]]] = {
    "the name of a recipe": (_file, (2,)),
    "extends": (_parent, (2,)),
    "a section": (lambda folder, evil: _recipe(folder, f"{DATA}[{_toml(evil)}]\nx = 1\n"), (2,)),
    "a key": (lambda folder, evil: _recipe(folder, f"{DATA}[train]\n{_toml(evil)} = 1\n"), (2,)),
    "a value": (lambda folder, evil: _recipe(folder, f"{DATA}[train]\nprecision = {_toml(evil)}\n"), (2,)),
    "a name that is shown": (lambda folder, evil: _recipe(folder, f"{DATA}root = {_toml(evil)}\n"), (2,)),
    "the name of a component": (lambda folder, evil: _recipe(folder, f"[generator]\nname = {_toml(evil)}\n"), (2,)),
    "--set": (lambda folder, evil: _recipe(folder, DATA, "--set", f"train.{evil}={evil}"), (2,)),
    "an option": (lambda folder, evil: ["show", f"--{evil}"], (2,)),
    "a command": (lambda folder, evil: [evil], (2,)),
    "the name of an image": (_damaged_image, (2,)),
    "a list of files": (_list, (2,)),
    "the header of a model": (_model, (0, 2)),
    "the header of a model, as JSON": (lambda folder, evil: _model(folder, evil, "--json"), (0, 2)),
    "the recipe of a model": (lambda folder, evil: _model(folder, evil, "--recipe"), (0, 2)),
    "the name of a plugin": (lambda folder, evil: _plugin(folder, "", evil), (0, 2)),
    "the distribution of a plugin": (lambda folder, evil: _plugin(folder, "import p2pkit.none", "e", evil), (0, 2)),
    "the error of a plugin": (lambda folder, evil: _plugin(folder, f"raise ValueError({evil!r})"), (0,)),
    "what a plugin prints": (lambda folder, evil: _plugin(folder, f"print({evil!r})"), (0,)),
    "what a plugin writes to stderr": (
        lambda folder, evil: _plugin(folder, f"import sys\nsys.stderr.writelines([{evil!r}])"), (0,),
    ),
    "the log of a plugin": (
        lambda folder, evil: _plugin(
            folder, f"import logging as log\nlog.StreamHandler().emit(log.makeLogRecord({{'msg': {evil!r}}}))"
        ),
        (0,),
    ),
}  # fmt: skip


def _attack(place: str, kind: str) -> Attack:
    prepare, codes = PLACES[place]
    evil = EVIL[kind]
    return Attack(FAMILY, f"{kind} in {place}", lambda folder: prepare(folder, evil), codes=codes, around=_forgotten)


def _advises_no_command(folder: Path, outcome: Outcome) -> None:
    assert "pip install" not in outcome.out + outcome.err


def _named(distribution: str) -> Attack:
    return Attack(
        "text that could be taken for a command", f"a distribution called {distribution}",
        lambda folder: _plugin(folder, "import p2pkit.none", "e", distribution), ["no distribution can be called"],
        codes=(0,), settled=_advises_no_command, around=_forgotten,
    )  # fmt: skip


ATTACKS = [
    *(_attack(place, kind) for place in PLACES for kind in EVIL),
    *map(_named, ("x; rm -rf ~", "$(reboot)", "`reboot`", "x && y", "--index-url=http://x", "git+https://x/y", "x\ny")),
]
