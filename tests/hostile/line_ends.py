"""Names with line ends, that would begin a line of their own in what is printed: an error, a result, a command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.conftest import SMALL, Outcome, picture, save
from tests.hostile.attacks import Attack
from tests.hostile.run_folders import STEP, _progress, _run, _set, trained
from tests.hostile.spoilt import evaluate, header, inspect, small_model
from tests.hostile.terminals import PLACES, _forgotten, _model, _plugin

FAMILY = "names that begin lines"
SAID = "Error: run this"
NAME = f"a\n{SAID}\ndone: x"
PLUGINS_OWN = ("what a plugin prints", "what a plugin writes to stderr", "the log of a plugin")
"""What a plugin prints itself may be on lines."""


def _begins_no_line(folder: Path, outcome: Outcome) -> None:
    lines = (outcome.out + "\n" + outcome.err).splitlines()
    assert not [line for line in lines if line.startswith((SAID, "done: x"))], outcome.out + outcome.err


def _pairs(folder: Path) -> Path:
    for split in ("train", "test"):
        for name in ("0", NAME):
            left = picture(24, 24, seed=len(name))
            save(folder / "pairs" / split / f"{name}.png", np.concatenate([left, 255 - left], axis=1))
    return folder / "pairs"


def _recipe(folder: Path) -> Path:
    (folder / "r.toml").write_text(SMALL.format(root=_pairs(folder)))
    return folder / "r.toml"


def _damaged(folder: Path, *command: object) -> Sequence[object]:
    recipe = _recipe(folder)
    (folder / "pairs" / "train" / f"{NAME}.png").write_bytes(b"no image")
    return [*command, recipe]


def _folders(folder: Path, *options: str) -> Sequence[object]:
    for side in "AB":
        for number, name in enumerate(("0", NAME)):
            save(folder / f"{side}{NAME}" / f"{name}.png", picture(24, 24, seed=number))
    return ["evaluate", folder / f"A{NAME}", folder / f"B{NAME}", *options]


def _translated(folder: Path, *options: str) -> Sequence[object]:
    save(folder / "in" / f"{NAME}.png", picture(16, 16, seed=0))
    for name in (f"{NAME}2.png", f"{NAME}.txt"):
        (folder / "in" / name).write_text("no image")
    return ["translate", small_model(folder), folder / "in", "--out", folder / NAME, "--device", "cpu", *options]


def _stopped(folder: Path) -> Sequence[object]:
    run = _run(folder)
    _progress(_set("stopped", NAME))(run)
    return ["run", run / "recipe.toml", "--out", run, "--continue", "--device", "cpu"]


def _checkpoint(folder: Path) -> Sequence[object]:
    run = _run(folder)
    shutil.copytree(run / "checkpoints" / STEP, run / "checkpoints" / f"step_00000003{NAME}")
    return ["run", "--resume", run, "--device", "cpu", "--set", "train.max_steps=3"]


def _start(folder: Path) -> Sequence[object]:
    run = _run(folder)
    file = run / "environment.json"
    start = {"threads": NAME, "libraries": {NAME: NAME}, "plugin_code": {NAME: NAME}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "starts": [start]}))
    return ["run", "--resume", run, "--device", "cpu", "--set", "train.max_steps=3"]


def _other_run(folder: Path) -> Sequence[object]:
    run = _run(folder)
    file = run / "environment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "id": NAME}))
    return ["run", "--resume", run, "--device", "cpu"]


def _initialised(folder: Path) -> Sequence[object]:
    return ["init", _pairs(folder).rename(folder / NAME), "--out", folder / f"{NAME}.toml"]


def _moved(folder: Path) -> Sequence[object]:
    run = Path(shutil.copytree(trained(), folder / NAME))
    (run / "model.safetensors").unlink()
    return ["evaluate", run, "--device", "cpu"]


COMMANDS: dict[str, Callable[[Path], Sequence[object]]] = {
    "an image that is checked": lambda folder: ["data", "check", _recipe(folder)],
    "an image that is none, check": lambda folder: _damaged(folder, "check"),
    "an image that is none, check --json": lambda folder: _damaged(folder, "check", "--json"),
    "an image that is none, data check": lambda folder: _damaged(folder, "data", "check"),
    "an image that is none, run": lambda folder: _damaged(folder, "run", "--device", "cpu"),
    "images that are measured": _folders,
    "images that are measured, as JSON": lambda folder: _folders(folder, "--json"),
    "images that are translated": _translated,
    "images that are translated, as JSON": lambda folder: _translated(folder, "--json"),
    "a folder and a recipe, init": _initialised,
    "a run that was stopped": _stopped,
    "a checkpoint": _checkpoint,
    "a start of a run": _start,
    "the id of a run": _other_run,
    "a run without a model": _moved,
    "no model, inspect --json": lambda folder: ["inspect", folder / NAME, "--json"],
    "no plugin, inspect --json": lambda folder: ["inspect", f"{NAME}:{NAME}", "--json"],
    "no recipe, run --json": lambda folder: ["run", folder / NAME, "--json"],
    "no run, resume": lambda folder: ["run", "--resume", folder / NAME],
    "no run, replay": lambda folder: ["replay", folder / NAME],
    "no component": lambda folder: ["components", NAME],
    "no limit": lambda folder: ["--limit", f"{NAME}=3", "show", "x"],
    "no plugin": lambda folder: ["--no-plugin", NAME, "plugins"],
    "no folder of plugins": lambda folder: ["--plugins-dir", folder / NAME, "plugins"],
    "no format of export": lambda folder: ["export", small_model(folder), "--out", folder / "x", "--format", NAME],
    "the data of a model": lambda folder: inspect(folder, header("data", NAME)),
    "a table in the recipe of a model": lambda folder: evaluate(folder, header("recipe", f"{json.dumps(NAME)} = 1")),
}


def _is_not_advised_as_a_command(folder: Path, outcome: Outcome) -> None:
    _begins_no_line(folder, outcome)
    assert "pip" not in outcome.out + outcome.err


ATTACKS = [
    *(
        Attack(FAMILY, place, lambda folder, place=place: PLACES[place][0](folder, NAME), codes=(0, 2),
               settled=_begins_no_line, around=_forgotten)
        for place in PLACES if place not in PLUGINS_OWN and PLACES[place][0] is not _model
    ),
    *(Attack(FAMILY, name, prepare, codes=(0, 2), settled=_begins_no_line) for name, prepare in COMMANDS.items()),
    *(
        Attack(FAMILY, f"the distribution {name!r} of a plugin that is left out", codes=(0,),
               prepare=lambda folder, name=name: _plugin(folder, "raise ValueError", "e", name),
               settled=_is_not_advised_as_a_command, around=_forgotten)
        for name in ("x; reboot", "$(reboot)", "a\nreboot", "-r x")
    ),
]  # fmt: skip
