"""Run folders in which something is not of the run: recipes edited, checkpoints, versions and data exchanged."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from functools import lru_cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import tomlkit
from PIL import Image

import p2pkit
from tests.conftest import SMALL, Outcome
from tests.hostile.attacks import Attack

ENDINGS = (".png", ".bmp", ".tif", ".jpg", ".webp", ".gif", ".npy")
EDITS: Mapping[str, Any] = {
    "run.seed": 7, "run.name": "another", "data.direction": "BtoA", "data.split": 0.5, "data.fingerprint": "whole",
    "loader.batch_size": 1, "loader.workers": 1, "loader.cache": "memory", "loader.bad_data": "skip",
    "transform.flip": False, "transform.load_size": 18, "transform.keep_aspect": True, "transform.crops_per_image": 2,
    "generator.width": 6, "generator.depth": 2, "discriminator.width": 6, "losses.0.weight": 2.0,
    "losses.1.weight": 1e3, "optimizer.lr": 0.01, "optimizer.betas": [0.9, 0.9], "optimizer.weight_decay": 0.1,
    "optimizer.clip_gradient_norm": 1.0, "schedule.warmup": 10, "train.max_steps": 400, "train.epochs": 9,
    "train.precision": "bf16", "train.accumulate": 2, "train.ema_decay": 0.9, "train.checkpoint_every": 1,
    "train.keep_checkpoints": 1, "train.log_every": 7, "train.max_time": "1h", "validation.max_images": 1,
    "validation.baseline": "none", "source.range": [0, 100], "target.mapping": "logarithmic",
    "source.channels": "gray", "discriminator_augmentation.policy": ["colour"],
}  # fmt: skip
"""Keys of the run's recipe, and other values that are as valid."""
CONTROL = "\x1b]0;owned\x07\x1b[2J\r\u202e"
REFUSED = "was not trained by what is here now"


@lru_cache
def _trained() -> Path:
    """A folder with a run of two steps, another one of the same recipe, and their data; made once."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, ending in enumerate(ENDINGS if split == "train" else (".png",)):
            file = folder / "data" / split / f"{number}{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 255, (20, 40, 3), dtype=np.uint8)
            if ending == ".npy":
                np.save(file, pixels)
            else:
                Image.fromarray(pixels).save(file)
    (folder / "pairs").symlink_to(folder / "data")
    recipe = SMALL.format(root="pairs")
    with chdir(folder):
        for name in ("run", "other"):
            Path(f"{name}.toml").write_text(recipe)
            p2pkit.train(Path(f"{name}.toml"), {"train.max_steps": 2, "train.sample_every": 9}, Path(name), "cpu")
    return folder


def copied_run(folder: Path) -> Path:
    """The run in a folder of its own; its recipe names the data by a link that leads to where the attack has it."""
    for name in ("run", "other"):
        shutil.copytree(_trained() / name, folder / name)
    _lead(_trained() / "data")
    return folder / "run"


def _lead(data: Path) -> None:
    (_trained() / "pairs").unlink()
    (_trained() / "pairs").symlink_to(data)


def _unchanged(folder: Path, outcome: Outcome) -> None:
    """What is refused is left as it is: nothing is renamed, cut short or written."""
    step = folder / "run" / "checkpoints" / "step_00000002"
    assert (step / "networks.safetensors").is_file(), "the checkpoint stays"
    model = (folder / "run" / "model.safetensors").read_bytes()
    assert model == (_trained() / "run" / "model.safetensors").read_bytes()
    lines = (folder / "run" / "metrics.jsonl").read_bytes()
    assert lines == (_trained() / "run" / "metrics.jsonl").read_bytes()
    assert not list((folder / "run" / "checkpoints").glob("damaged_*"))


def _edited(folder: Path, key: str, value: Any, command: Sequence[str]) -> list[object]:
    file = copied_run(folder) / "recipe.toml"
    document: Any = tomlkit.parse(file.read_text())
    holder = document
    *path, last = key.split(".")
    for part in path:
        if not part.isdigit() and part not in holder:
            holder[part] = tomlkit.table()
        holder = holder[int(part) if part.isdigit() else part]
    holder[last] = value
    file.write_text(tomlkit.dumps(document))
    return [*command, "--device", "cpu"]


RESUME = ("run", "--resume", "run")
EDITED = [
    Attack(
        "a recipe edited behind a run", key, partial(_edited, key=key, value=value, command=RESUME),
        [REFUSED, f"{key}: ", f"-> {value!r}", "--accept-changed-recipe"], settled=_unchanged,
    )
    for key, value in EDITS.items()
]  # fmt: skip


def _with_files(folder: Path, change: Callable[[Path], None]) -> list[object]:
    change(copied_run(folder))
    return [*RESUME, "--device", "cpu"]


def _take(run: Path, names: str, step: str = "step_00000002") -> None:
    """Exchange files of the run for those of the other one."""
    for name in names.split():
        source, target = run.with_name("other") / name, run / name
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)


def _add(run: Path, step: int) -> None:
    shutil.copytree(run.with_name("other") / "checkpoints/step_00000002", run / f"checkpoints/step_{step:08}")


def _environment(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = run / "environment.json"
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


def _forged_note(run: Path, **note: Any) -> None:
    """An edit that changes.jsonl seems to know of."""
    file = run / "recipe.toml"
    file.write_text(file.read_text().replace("seed = 0", "seed = 9"))
    (run / "changes.jsonl").write_text(json.dumps({"step": 2, "changes": {"run.seed": [0, 9]}, **note}) + "\n")


RANGES = ["in environment.json: ", "ranges"]
ORIGIN = {"path": "/elsewhere", "step": 3, "sha256_of_weights": "0" * 64}
EXCHANGED: list[tuple[str, Callable[[Path], None], list[str]]] = [
    ("its checkpoints", partial(_take, names="checkpoints"), ["is of another run"]),
    ("environment.json", partial(_take, names="environment.json"), ["is of another run"]),
    ("a later checkpoint", partial(_add, step=900), ["step_00000900 is of another run"]),
    ("an earlier checkpoint", partial(_add, step=1), ["step_00000001 is of another run"]),
    ("no environment.json", lambda run: (run / "environment.json").unlink(), ["there is no such file", "train anew"]),
    ("no id", partial(_environment, change=lambda found: found.pop("id")), ["is of none"]),
    (
        "an id that controls",
        partial(_environment, change=lambda found: found.update(id=CONTROL)),
        ["is of another run"],
    ),
    ("other ranges", partial(_environment, change=lambda found: found["data"]["ranges"].update(target=[0, 9])), RANGES),
    (
        "another starting point",
        partial(_environment, change=lambda found: found.update(init_from=ORIGIN)),
        [ORIGIN["path"]],
    ),
    ("an id that is a list", partial(_environment, change=lambda found: found.update(id=[1])), ["is of another run"]),
    ("a note of another recipe", partial(_forged_note, recipe_sha256="0" * 64), ["run.seed: 0 -> 9"]),
    ("a note without a checksum", _forged_note, ["run.seed: 0 -> 9"]),
    ("a note whose checksum is a list", partial(_forged_note, recipe_sha256=["0"]), ["run.seed: 0 -> 9"]),
]


def _rewritten(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what the checkpoint says of its run, with right checksums."""
    file = run / "checkpoints" / "step_00000002" / "progress.json"
    record = json.loads(file.read_text())
    del record["sha256_of_the_rest"]
    said = record["run"]
    changed = change(said)
    record["run"] = said if changed is None else changed
    if isinstance(said.get("recipe"), str) and isinstance(said.get("recipe_sha256"), str):
        said["recipe_sha256"] = hashlib.sha256(said["recipe"].encode()).hexdigest()
    checksum = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**record, "sha256_of_the_rest": checksum}))


def _set(said: dict[str, Any], **values: Any) -> None:
    said.update(values)


KEYS = "\n".join(f"key_{number} = {number}" for number in range(3000))
SAID: list[tuple[str, Callable[[dict[str, Any]], Any], list[str]]] = [
    ("another p2pkit", partial(_set, versions={"p2pkit": "99.0"}), ["p2pkit: '99.0' -> ", "--accept-changed-versions"]),
    ("no versions", partial(_set, versions={}), ["p2pkit: nothing -> "]),
    ("versions that control", partial(_set, versions={CONTROL: CONTROL}), ["-> nothing"]),
    ("an id that controls", partial(_set, id=CONTROL), ["is of another run"]),
    ("an id of a megabyte", partial(_set, id="x" * 2**20), ["is of another run"]),
    ("no recipe", partial(_set, recipe=""), ["run.seed: nothing -> 0"]),
    ("a recipe that is none", partial(_set, recipe="= ["), ["the recipe in its last checkpoint is none"]),
    ("a recipe that controls", partial(_set, recipe=f'"{json.dumps(CONTROL)[1:-1]}" = 1'), [REFUSED]),
    ("a recipe whose error controls", partial(_set, recipe=f"{CONTROL} = 1"), ["the recipe in its last checkpoint"]),
    ("a recipe of many keys", partial(_set, recipe=KEYS), [REFUSED, "more"]),
    ("a recipe of deep tables", partial(_set, recipe=f"a = {'[' * 3000}{']' * 3000}"), ["recipe"]),
    ("a recipe of other keys", partial(_set, recipe="[run]\nseed = nan"), ["run.seed: nan -> 0"]),
]
DAMAGED: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("nothing", lambda said: said.clear()),
    ("a list", lambda said: []),
    ("a text", lambda said: "x"),
    ("a number", lambda said: 1),
    ("no id", lambda said: said.pop("id") and None),
    ("an id that is a number", partial(_set, id=1)),
    ("an id that is nothing", partial(_set, id=None)),
    ("a recipe that is a list", partial(_set, recipe=["x"])),
    ("a recipe that is nothing", partial(_set, recipe=None)),
    ("versions that are a list", partial(_set, versions=["x"])),
    ("versions that are a number", partial(_set, versions=1)),
    ("versions of numbers", partial(_set, versions={"p2pkit": 1})),
    ("versions of tables", partial(_set, versions={"p2pkit": {"x": 1}})),
    ("data that is a number", partial(_set, data=1)),
    ("another checksum", partial(_set, recipe_sha256=0)),
    ("half a surrogate in the recipe", partial(_set, recipe="\ud800", recipe_sha256=1)),
]


def _other_data(folder: Path, ending: str) -> list[object]:
    """Every pixel of a file replaced at equal size, or as many bytes as make no difference to its header."""
    copied_run(folder)
    shutil.copytree(_trained() / "data", folder / "data")
    _lead(folder / "data")
    (file,) = (folder / "data" / "train").glob(f"*{ending}")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    file.write_bytes(content)
    return [*RESUME, "--device", "cpu"]


LIES = "a checkpoint that lies of its run"
ATTACKS = [
    *EDITED,
    *(
        Attack("parts of another run", name, partial(_with_files, change=change), says, settled=_unchanged)
        for name, change, says in EXCHANGED
    ),
    *(
        Attack(LIES, name, partial(_with_files, change=partial(_rewritten, change=change)), says)
        for name, change, says in SAID
    ),
    *(
        Attack(
            LIES, f"{name} in place of it",
            partial(_with_files, change=partial(_rewritten, change=change)), ["all checkpoints are damaged"],
        )
        for name, change in DAMAGED
    ),
    *(
        Attack(
            "data replaced at equal size", ending, partial(_other_data, ending=ending), ["--accept-changed-data"],
            settled=_unchanged,
        )
        for ending in ENDINGS
    ),
]  # fmt: skip
