"""Links in run folders and among outputs that lead to somebody else's file, and folders that hold somebody's work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from p2pkit.images.outputs import SIDECAR
from tests.conftest import Outcome
from tests.hostile.attacks import Attack
from tests.hostile.identity import copied_run
from tests.hostile.spoilt import picture, small_model

FAMILY = "only its own"
MINE = "precious\n"
RESUME = ["run", "--resume", "run", "--device", "cpu", "--set", "train.max_steps=3"]


def _leading(kind: str, place: Path, folder: Path) -> None:
    """Put a link in a file's place."""
    place.unlink(missing_ok=True)
    (folder / "mine").write_text(MINE)
    place.symlink_to(folder / ("mine" if kind == "a file" else "nothing"))


def _untouched(folder: Path, outcome: Outcome) -> None:
    assert (folder / "mine").read_text() == MINE
    assert not (folder / "nothing").exists()


def _run(folder: Path, name: str, kind: str) -> Sequence[object]:
    _leading(kind, copied_run(folder) / name, folder)
    return RESUME


def _owner_is_a_fifo(folder: Path) -> Sequence[object]:
    os.mkfifo(copied_run(folder) / ".owner")
    return RESUME


def _output(folder: Path, name: str, kind: str) -> Sequence[object]:
    (folder / "out").mkdir()
    source = picture(folder)
    _leading(kind, folder / "out" / name, folder)
    return ["translate", small_model(folder), source, "--out", "out", "--device", "cpu", "--overwrite"]


def _own_work(folder: Path, prepare: Callable[[Path], None]) -> Sequence[object]:
    """A run whose --out is a folder in which somebody works."""
    copied_run(folder)
    (folder / "work").mkdir()
    prepare(folder / "work")
    return ["run", "run/recipe.toml", "--out", "work", "--device", "cpu", "--set", "train.max_steps=1"]


def _written(place: Path, *names: str) -> None:
    for name in names:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(MINE)


def _work_is_kept(folder: Path, outcome: Outcome) -> None:
    assert all(file.read_text() == MINE for file in (folder / "work").rglob("*") if file.is_file())


def _beside_checkpoints(folder: Path, name: str) -> Sequence[object]:
    _written(copied_run(folder) / "checkpoints" / name, "mine")
    return [*RESUME, "--set", "train.keep_checkpoints=1", "--set", "train.checkpoint_every=1"]


def _is_kept(name: str, folder: Path, outcome: Outcome) -> None:
    assert (folder / "run" / "checkpoints" / name / "mine").read_text() == MINE


ATTACKS = [
    *(
        Attack(
            FAMILY, f"{name} of a run, a link to {kind}", partial(_run, name=name, kind=kind), codes=(0, 2),
            settled=_untouched,
        )
        for name in (
            ".owner", ".lock", "changes.jsonl", "metrics.jsonl", "bad_data.jsonl", "validation.json",
            "recipe.source.toml", "model.safetensors", "best.safetensors", "environment.json",
        )
        for kind in ("a file", "nothing")
    ),
    Attack(FAMILY, ".owner of a run, a FIFO", _owner_is_a_fifo, codes=(0,)),
    *(
        Attack(
            FAMILY, f"{name} among outputs, a link to {kind}", partial(_output, name=name, kind=kind), codes=(0, 2),
            settled=_untouched,
        )
        for name in (SIDECAR, "a.png")
        for kind in ("a file", "nothing")
    ),
    *(
        Attack(
            FAMILY, f"--out with somebody's {', '.join(names)}",
            partial(_own_work, prepare=partial(lambda names, place: _written(place, *names), names)),
            ["there is something in that place already"], settled=_work_is_kept,
        )
        for names in (
            ["recipe.toml"], ["recipe.toml", "metrics.jsonl"], ["environment.json", "recipe.toml"],
            ["recipe.source.toml"], [".owner", "metrics.jsonl"], ["checkpoints/step_00000001", "validation.json"],
            ["model.safetensors"], [".notes.part"],
        )
    ),
    *(
        Attack(
            FAMILY, f"{name} beside checkpoints", partial(_beside_checkpoints, name=name), codes=(0,),
            settled=partial(_is_kept, name),
        )
        for name in ("step_1", "step_5", "step_0000000004", "step_²", "step_٣", "step_best", "step_00000002.old")
    ),
]  # fmt: skip
