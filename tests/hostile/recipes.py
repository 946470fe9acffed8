"""Recipes that are large, deep, endless, in a circle, or hold what no recipe does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Outcome
from tests.hostile.attacks import MB, Attack

KEYS = 20_000
ITEMS = '"x",' * KEYS
DATA = '[data]\nname = "procedural_facades"\n'
LARGE = {
    "keys of a section": f"{DATA}[train]\n" + "".join(f"k{i} = 1\n" for i in range(KEYS)),
    "keys of a component": DATA + "".join(f"k{i} = 1\n" for i in range(KEYS)),
    "keys above all sections": "".join(f"k{i} = 1\n" for i in range(KEYS)),
    "sections": "".join(f"[s{i}]\nx = 1\n" for i in range(KEYS)),
    "losses": DATA + '[[losses]]\nname = "l1"\n' * KEYS,
    "metrics": DATA + '[[metrics]]\nname = "nobody"\n' * KEYS,
    "augmentations": DATA + '[[augmentations]]\nname = "flip"\n' * KEYS,
    "callbacks": DATA + '[[callbacks]]\nname = "early_stopping"\n' * KEYS,
    "sources": DATA + "".join(f"[source.s{i}]\nrange = [0, 1]\n" for i in range(KEYS)),
    "optimizers": DATA + "".join(f"[optimizer.s{i}]\nlr = 1\n" for i in range(KEYS)),
    "keys that have parts": DATA + "".join(f"a.b.c.k{i} = 1\n" for i in range(KEYS)),
    "keys in tables of one line": DATA + "x = [" + "{a = 1, b = 2}," * KEYS + "]\n",
}
"""More keys than a recipe may have."""
MANY = {
    "unknown keys": f"{DATA}[train]\n" + "".join(f"k{i} = 1\n" for i in range(4000)),
    "unknown keys of a component": DATA + "".join(f"k{i} = 1\n" for i in range(4000)),
    "unknown sections": DATA + "".join(f"[s{i}]\n" for i in range(4000)),
    "unknown losses": DATA + '[[losses]]\nname = "nobody"\n' * 2000,
    "losses with unknown keys": DATA + '[[losses]]\nname = "l1"\nx = 1\n' * 1500,
    "sources with unknown keys": DATA + "".join(f"[source.s{i}]\nrage = 1\n" for i in range(1500)),
    "wrong values in a list": f"{DATA}[run]\ntrackers = [{ITEMS}]\n",
    "a list in place of a number": f"{DATA}[transform]\nload_size = [{ITEMS}]\n",
    "a list in place of a name": f"{DATA}[generator]\nname = [{ITEMS}]\n",
    "a table in place of a number": f"{DATA}[transform.load_size]\n" + "".join(f"k{i} = 1\n" for i in range(4000)),
}
"""As many mistakes as a recipe may have room for: the first are told, and how many more."""
DEEP = {
    "lists": f"x = {'[' * 900}{']' * 900}\n",
    "lists without an end": "x = " + "[" * 100_000,
    "tables of one line": f"x = {'{a = ' * 900}1{'}' * 900}\n",
    "a key": ".".join("a" * 100_000) + " = 1\n",
    "a quoted key": ".".join(['"a.b"'] * 5000) + " = 1\n",
    "the header of a table": f"[{'.'.join('a' * 100_000)}]\n",
    "the header of a list of tables": f"[[{'.'.join('a' * 5000)}]]\n",
    "tables below each other": "\n".join(f"[{'.'.join('a' * depth)}]" for depth in range(1, 60)),
    "lists in a value": f"[data]\nroot = '{'[' * 100_000}'\n",
}
ODD = {
    "a number of 100 000 digits": f"[train]\nepochs = {'9' * 100_000}\n",
    "a number of 400 digits": f"[train]\nepochs = {'9' * 400}\n",
    "a seed of more than 64 bits": f"[run]\nseed = {2**64}\n",
    "a hexadecimal number of a megabyte": f"[train]\nepochs = 0x{'f' * 10**6}\n",
    "a key of a megabyte": f"{DATA}{'k' * 10**6} = 1\n",
    "a value of a megabyte": f"{DATA}[train]\nprecision = '{'x' * 10**6}'\n",
    "a key with dots": f'{DATA}[train]\n"a.b.c" = 1\n',
    "a section with dots": f'{DATA}["a.b.c"]\nx = 1\n',
    "a key with nothing in it": f'{DATA}[train]\n"" = 1\n',
    "a source with dots": f'{DATA}[source."a.b"]\nrage = 1\n',
    "a network with dots": f'{DATA}[optimizer."a.b"]\nlr = 1\n',
    "a date": f"{DATA}[train]\nepochs = 1979-05-27\n",
    "a time": f"{DATA}[run]\nname = 07:32:00\n",
    "a number that is none": f"{DATA}[optimizer]\nlr = nan\n",
    "an endless number": f"{DATA}[optimizer]\nlr = inf\n",
    "a name that is a list": "[[data]]\nname = []\n",
    "sections that are numbers": "data = 1\ntrain = 1\nlosses = 1\ngenerator = 1\nsource = 1\nrun = 1\n",
    "an unfinished text": f'{DATA}[run]\nname = "{"x" * 10**6}',
    "a name of the run above the folder": f'{DATA}[run]\nname = "../../x"\n',
    "bytes of a program": "\x7fELF\x01\x01",
}


def _shown(text: str) -> Callable[[Path], list[object]]:
    def prepare(folder: Path) -> list[object]:
        (folder / "r.toml").write_text(text)
        return ["show", folder / "r.toml"]

    return prepare


def _little_is_said(folder: Path, outcome: Outcome) -> None:
    assert len(outcome.err) < 250_000, f"{len(outcome.err)} characters"


def _chain(folder: Path) -> list[object]:
    for number in range(2000):
        (folder / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"\n')
    return ["show", folder / "0.toml"]


def _large_chain(folder: Path) -> list[object]:
    for number in range(20):
        (folder / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"\n#{"x" * 200_000}\n')
    return ["show", folder / "0.toml"]


def _circle(folder: Path) -> list[object]:
    for number in range(40):
        (folder / f"{number}.toml").write_text(f'extends = "{(number + 1) % 40}.toml"\n')
    return ["show", folder / "0.toml"]


def _itself(folder: Path) -> list[object]:
    (folder / "r.toml").write_text('extends = "././r.toml"\n')
    return ["show", folder / "r.toml"]


def _endless_link(folder: Path) -> list[object]:
    (folder / "a.toml").symlink_to("b.toml")
    (folder / "b.toml").symlink_to("a.toml")
    (folder / "r.toml").write_text('extends = "a.toml"\n')
    return ["show", folder / "r.toml"]


def _sparse(folder: Path) -> list[object]:
    (folder / "r.toml").touch()
    os.truncate(folder / "r.toml", 2**40)
    return ["show", folder / "r.toml"]


def _sparse_parent(folder: Path) -> list[object]:
    _sparse(folder)
    (folder / "c.toml").write_text('extends = "r.toml"\n')
    return ["check", folder / "c.toml"]


def _raised(folder: Path) -> list[object]:
    (folder / "r.toml").write_text(f"{DATA}#{'x' * 3 * 10**6}\n")
    return ["--limit", "recipe_bytes=4MB", "show", folder / "r.toml"]


def _many_sets(folder: Path) -> list[object]:
    (folder / "r.toml").write_text(DATA)
    return ["show", folder / "r.toml", *(word for i in range(300) for word in ("--set", f"train.k{i}=1"))]


def _deep_set(folder: Path) -> list[object]:
    (folder / "r.toml").write_text(DATA)
    return ["show", folder / "r.toml", "--set", f"train.epochs={'[' * 5000}"]


def _deep_key_set(folder: Path) -> list[object]:
    (folder / "r.toml").write_text(DATA)
    return ["show", folder / "r.toml", "--set", f"{'.'.join('a' * 5000)}=1"]


BOUND = "bounded recipes"
ATTACKS = [
    *(
        Attack(BOUND, f"20 000 {name}", _shown(text), ["recipe_keys", "--limit recipe_keys="], settled=_little_is_said)
        for name, text in LARGE.items()
    ),
    *(Attack(BOUND, f"many {name}", _shown(text), settled=_little_is_said) for name, text in MANY.items()),
    *(Attack(BOUND, f"{name} nested deep", _shown(text), settled=_little_is_said) for name, text in DEEP.items()),
    *(Attack(BOUND, name, _shown(text), settled=_little_is_said, codes=(0, 2)) for name, text in ODD.items()),
    Attack(BOUND, "a chain of 2 000 files", _chain, ["more than 50 files"]),
    Attack(BOUND, "a chain of large files", _large_chain, ["with those that it builds on", "--limit recipe_bytes="]),
    Attack(BOUND, "a circle of 40 files", _circle, ["circle"]),
    Attack(BOUND, "a recipe that extends itself", _itself, ["circle"]),
    Attack(BOUND, "links to each other", _endless_link),
    Attack(BOUND, "a terabyte", _sparse, ["recipe_bytes is 2MB", "--limit recipe_bytes=2TB"], memory=50 * MB),
    Attack(BOUND, "a terabyte that is extended", _sparse_parent, ["named by extends"], memory=50 * MB),
    Attack(BOUND, "a limit that is raised", _raised, codes=(0,)),
    Attack(BOUND, "300 unknown keys by --set", _many_sets, settled=_little_is_said),
    Attack(BOUND, "a deep value by --set", _deep_set),
    Attack(BOUND, "a deep key by --set", _deep_key_set),
]
