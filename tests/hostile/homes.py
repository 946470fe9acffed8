"""Homes and folders as few people have them: none, one that is a file, a cache that cannot be written, odd names."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SMALL, Outcome, picture, save
from tests.hostile.attacks import Attack

VARIABLES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TORCH_HOME", "HF_HOME", "USER", "LOGNAME")


@contextmanager
def _home(folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """A process whose user nobody knows, with these variables alone; {} in them is the folder."""

    def unknown(_: object) -> object:
        raise KeyError("uid not found")

    (folder / "a file").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value.replace("{}", str(folder)))
        patch.setattr(pwd, "getpwuid", unknown)
        patch.setattr(pwd, "getpwnam", unknown)
        yield


def _pairs(folder: Path, name: str = "pairs") -> Path:
    for split in ("train", "test"):
        for index in range(2):
            left = picture(24, 24, seed=index)
            save(folder / name / split / f"{index}.png", np.concatenate([left, 255 - left], axis=1))
    return folder / name


def _recipe(folder: Path, root: Path | str | None = None) -> Path:
    (folder / "r.toml").write_text(SMALL.format(root=root or _pairs(folder)))
    return folder / "r.toml"


def _check(folder: Path) -> list[object]:
    return ["check", _recipe(folder)]


def _init(folder: Path) -> list[object]:
    return ["init", _pairs(folder), "--out", folder / "new.toml"]


def _show(folder: Path) -> list[object]:
    return ["show", _recipe(folder)]


def _nothing_is_called_home(folder: Path, outcome: Outcome) -> None:
    assert not [each for each in folder.rglob("*") if each.name in ("~", "relative")]


HOMES: dict[str, Mapping[str, str]] = {
    "no home": {},
    "an empty HOME": {"HOME": ""},
    "a HOME that is a file": {"HOME": "{}/a file"},
    "a HOME that is not there": {"HOME": "/nonexistent"},
    "a HOME that nobody writes to": {"HOME": "/proc"},
    "a HOME without an end": {"HOME": "/" + "x" * 5000},
    "a relative cache": {"XDG_CACHE_HOME": "relative"},
    "a cache that is a file": {"XDG_CACHE_HOME": "{}/a file"},
    "a cache that nobody writes to": {"XDG_CACHE_HOME": "/proc"},
    "a cache in a name that is no UTF-8": {"XDG_CACHE_HOME": "{}/\udcff"},
    "a cache whose name controls a terminal": {"XDG_CACHE_HOME": "{}/\x1b[31m"},
}
COMMANDS = {"check": _check, "init": _init, "show": _show}


def _in_home(name: str, command: str) -> Attack:
    return Attack(
        "odd homes", f"{command} with {name}", COMMANDS[command], codes=(0,), settled=_nothing_is_called_home,
        around=lambda folder: _home(folder, HOMES[name]),
    )  # fmt: skip


def _gone(folder: Path) -> list[object]:
    recipe = _recipe(folder)
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    (folder / "gone").rmdir()
    return ["show", recipe]


def _tilde(folder: Path) -> list[object]:
    return ["check", "~/r.toml"]


def _tilde_of_nobody(folder: Path) -> list[object]:
    return ["check", _recipe(folder, "~nobody-is-called-so/pairs")]


def _tilde_source(folder: Path) -> list[object]:
    recipe = folder / "r.toml"
    recipe.write_text(f'[data]\nname = "paired_folders"\nroot = "{folder}"\nsource = "~x/a"\ntarget = "b"\n')
    return ["check", recipe]


def _bytes_named(name: bytes) -> Callable[[Path], list[object]]:
    """A data set in which an image's name has any bytes."""

    def prepare(folder: Path) -> list[object]:
        for split in ("train", "test"):
            place = _pairs(folder) / split
            (place / "0.png").rename(place / os.fsdecode(name + b".png"))
        return ["check", _recipe(folder, folder / "pairs")]

    return prepare


def _folder_named(name: bytes) -> Callable[[Path], list[object]]:
    def prepare(folder: Path) -> list[object]:
        return ["init", _pairs(folder).rename(folder / os.fsdecode(name)), "--out", folder / "new.toml"]

    return prepare


def _recipe_named(name: bytes) -> Callable[[Path], list[object]]:
    def prepare(folder: Path) -> list[object]:
        return ["show", _recipe(folder).rename(folder / os.fsdecode(name))]

    return prepare


NAMES = {
    "no UTF-8": b"\xff\xfe", "half a letter": b"\xe4", "an overlong slash": b"\xc0\xaf", "a surrogate": b"\xed\xa0\x80",
    "two lines": b"a\nError: b", "an escape": b"\x1b[31m", "an option": b"--help", "a blank": b" ",
    "quotes": b"'\"`$(x)",
    "a pattern": b"[a]*?", "a colon": b"a:b", "a letter in two parts": "u\u0308".encode(), "a backslash": b"a\\b",
    "250 bytes": b"x" * 250,
}  # fmt: skip
NAMED: dict[str, Callable[[bytes], Callable[[Path], list[object]]]] = {
    "an image": _bytes_named, "a folder of pairs": _folder_named, "a recipe": _recipe_named,
}  # fmt: skip


def _program(folder: Path) -> Path:
    """A program that leaves a trace where it runs."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ntouch '{folder}/RAN'\ncat\n")
    program.chmod(0o755)
    return program


def _repository(configuration: str) -> Callable[[Path], list[object]]:
    """A run in a repository whose configuration names a program."""

    def prepare(folder: Path) -> list[object]:
        work = folder / "work"
        work.mkdir()
        git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
        (work / "x").write_text("1\n")
        (work / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
            subprocess.run([*git, *words], check=True)
        with (work / ".git" / "config").open("a") as stream:
            stream.write(configuration.replace("{}", str(_program(folder))))
        for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "post-checkout"):
            (work / ".git" / "hooks").mkdir(exist_ok=True)
            (work / ".git" / "hooks" / hook).symlink_to(folder / "program")
        (work / "x").write_text("2\n")
        os.utime(work / "x", (1, 1))
        os.chdir(work)
        return ["run", _recipe(folder), "--out", folder / "run", "--set", "train.max_steps=1", "--device", "cpu"]

    return prepare


def _has_not_run(folder: Path, outcome: Outcome) -> None:
    assert not (folder / "RAN").exists()
    assert '"directory_commit": "' in (folder / "run" / "environment.json").read_text()


REPOSITORIES = {
    "a monitor of files": "[core]\n\tfsmonitor = {}\n",
    "a filter": '[filter "evil"]\n\tclean = {}\n\tsmudge = {}\n\trequired = true\n',
    "a filter that stays": '[filter "evil"]\n\tprocess = {}\n',
    "programs to show, to ask and to fetch": (
        "[core]\n\tpager = {}\n\tsshCommand = {}\n\taskPass = {}\n\teditor = {}\n\thooksPath = ../\n"
        '[diff]\n\texternal = {}\n[diff "evil"]\n\ttextconv = {}\n\tcommand = {}\n[credential]\n\thelper = {}\n'
        "[gpg]\n\tprogram = {}\n[alias]\n\tstatus = !{}\n\tconfig = !{}\n\trev-parse = !{}\n"
    ),
}

ATTACKS = [
    *(_in_home(name, command) for name in HOMES for command in COMMANDS),
    Attack("odd homes", "the folder is gone", _gone, ["not there any more"]),
    Attack("odd homes", "~ without a home", _tilde, ["~"], around=lambda folder: _home(folder, {})),
    Attack("odd homes", "the home of nobody", _tilde_of_nobody, ["~"]),
    Attack("odd homes", "a source in the home of nobody", _tilde_source, ["~"]),
    *(
        Attack("names of any bytes", f"{what} called {kind}", prepare(name), codes=(0, 2))
        for what, prepare in NAMED.items()
        for kind, name in NAMES.items()
    ),
    *(
        Attack("programs that data names", f"a repository with {name}", _repository(text), codes=(0,),
               settled=_has_not_run, seconds=60)
        for name, text in REPOSITORIES.items()
    ),
]  # fmt: skip
