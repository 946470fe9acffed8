"""FIFOs and devices in place of files: opening one to read waits for ever, and a device may never end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.conftest import REPOSITORY, SMALL, picture, save
from tests.hostile.attacks import Attack

FAMILY = "a FIFO or a device in place of a file"
PAIRED = '[data]\nname = "paired_folders"\nroot = "."\n'


def _recipe(folder: Path, file: Path) -> list[object]:
    return ["check", file]


def _parent(folder: Path, file: Path) -> list[object]:
    return _checked(folder, f'extends = "{file}"\n')


def _list(folder: Path, file: Path) -> list[object]:
    save(folder / "source.png", picture(8, 8, 1))
    return _checked(folder, f'{PAIRED}list = "{file}"\n')


def _checked(folder: Path, text: str) -> list[object]:
    (folder / "r.toml").write_text(text)
    return ["--plugins-dir", REPOSITORY / "plugins", "check", folder / "r.toml"]


def _at(folder: Path, file: Path, name: str) -> Path:
    """The FIFO or device under another name, which is made with its folder."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if file.is_fifo():
        file.rename(place)
    else:
        place.symlink_to(file)
    return place


def _shard(folder: Path, file: Path) -> list[object]:
    _at(folder, file, "shards/train/a.tar")
    return _checked(folder, f'[data]\nname = "webdataset"\nroot = "{folder / "shards"}"\n')


def _index(folder: Path, file: Path) -> list[object]:
    _at(folder, file, "shards/train/shards.json")
    return _checked(folder, f'[data]\nname = "webdataset"\nroot = "{folder / "shards"}"\n')


def _plugin(folder: Path, file: Path) -> list[object]:
    _at(folder, file, "plugins/x/pyproject.toml")
    return ["--plugins-dir", folder / "plugins", "plugins"]


def _model(folder: Path, file: Path) -> list[object]:
    return ["inspect", file]


def _weights(folder: Path, file: Path) -> list[object]:
    for split in ("train", "test"):
        for index in range(2):
            left = picture(24, 24, seed=index)
            save(folder / "pairs" / split / f"{index}.png", np.concatenate([left, 255 - left], axis=1))
    text = SMALL.format(root=folder / "pairs") + f'init_from = "{file}"\n'
    return _checked(folder, text)


def _run(name: str) -> Callable[[Path, Path], list[object]]:
    """A file of a run folder."""

    def prepare(folder: Path, file: Path) -> list[object]:
        run = folder / "run"
        (run / "checkpoints" / "step_00000001").mkdir(parents=True)
        if name != "recipe.toml":
            (run / "recipe.toml").write_text(SMALL.format(root=folder / "pairs"))
        _at(folder, file, f"run/{name}")
        return ["run", "--resume", run, "--device", "cpu"]

    return prepare


PLACES: dict[str, Callable[[Path, Path], list[object]]] = {
    "a recipe": _recipe,
    "extends": _parent,
    "a list of files": _list,
    "a shard": _shard,
    "an index of shards": _index,
    "a plugin's pyproject.toml": _plugin,
    "a model file": _model,
    "init_from": _weights,
    "a run's recipe": _run("recipe.toml"),
    "a run's progress.json": _run("checkpoints/step_00000001/progress.json"),
    "a run's environment.json": _run("environment.json"),
    "a run's metrics.jsonl": _run("metrics.jsonl"),
    "a run's validation.json": _run("validation.json"),
}


def _attack(place: str, device: str | None) -> Attack:
    def prepare(folder: Path) -> list[object]:
        file = Path(device or folder / "fifo")
        if device is None:
            os.mkfifo(file)
        return PLACES[place](folder, file)

    return Attack(FAMILY, f"{device or 'a FIFO'} as {place}", prepare)


ATTACKS = [_attack(place, device) for place in PLACES for device in (None, "/dev/zero")]
