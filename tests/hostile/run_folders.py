"""Run folders whose files say, with checksums that are right, what no run writes."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.conftest import SMALL, Outcome, forget_accelerator
from tests.hostile.attacks import Attack
from tests.hostile.spoilt import named

FAMILY = "run folders by value"
NAN, INFINITE = float("nan"), float("inf")
STEP = "step_00000002"
Alter = Callable[[dict[str, Any]], object]
PROGRESS: Mapping[str, Sequence[Any]] = {
    "step": (-1, 3, "2", 2.5, None, 10**30),
    "seconds": (-1, NAN, "1", None),
    "window": ({"sums": {"a": "b"}, "counts": {"a": 1}}, {"sums": {}, "counts": {"a": 0}}, [], 5),
    "best": ([1], [-1, 2], "best", [1, "2"]),
    "metrics": ([1], {"psnr": "high"}, 5),
    "finished": ("yes", 1),
    "stopped": (5, None),
    "expected": ([1], [-1, 1], [NAN, 1]),
    "optimizers": (
        {},
        [],
        {"generator": {"groups": [], "numbers": {}}, "discriminator": {"groups": [], "numbers": {}}},
    ),
    "scaler": ("x", [1]),
    "states": ([], {"a": []}, {"a": [{"value": 1, "file": "../../networks.safetensors"}]}, {"a": [{"value": 1}]}),
    "sha256": ({}, {"../progress.json": "0" * 64}, {"networks.safetensors": 5}, []),
}
ENVIRONMENT: Mapping[str, Sequence[Any]] = {
    "data": (
        5,
        [],
        {"ranges": []},
        {"ranges": {"source": [1, 0]}},
        {"ranges": {"source": [0, NAN]}},
        {"ranges": {"source": "x"}},
        {"fingerprint": 5},
    ),
    "starts": (5, {"a": 1}, [1]),
    "init_from": (5, {"path": 1}, {"path": "a", "step": -1, "sha256_of_weights": "x"}),
}


@lru_cache
def trained() -> Path:
    """A run of two steps, with a checkpoint; made once."""
    import p2pkit

    root = Path(tempfile.mkdtemp())
    for split in ("train", "test"):
        (root / "pairs" / split).mkdir(parents=True)
        for index in range(2):
            pixels = np.random.default_rng(index).integers(0, 255, (24, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "pairs" / split / f"{index}.png")
    (root / "small.toml").write_text(SMALL.format(root=root / "pairs"))
    overrides = {"train.max_steps": 2, "validation.baseline": "none"}
    p2pkit.train(root / "small.toml", overrides=overrides, out=root / "run", device="cpu")
    forget_accelerator()
    return root / "run"


def _run(folder: Path) -> Path:
    return Path(shutil.copytree(trained(), folder / "run"))


def _resume(folder: Path, spoil: Callable[[Path], object]) -> Sequence[object]:
    run = _run(folder)
    spoil(run)
    return ["run", "--resume", run, "--device", "cpu", "--set", "train.max_steps=3"]


def _progress(alter: Alter) -> Callable[[Path], object]:
    """Another progress.json, with the checksum of it."""

    def spoil(run: Path) -> None:
        file = run / "checkpoints" / STEP / "progress.json"
        record = json.loads(file.read_text())
        del record["sha256_of_the_rest"]
        alter(record)
        checksum = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        file.write_text(json.dumps({**record, "sha256_of_the_rest": checksum}))

    return spoil


def _set(name: str, value: Any) -> Alter:
    return lambda record: record.update({name: value})


def _tensors(name: str, alter: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """Other tensors in a checkpoint, with the checksum of these."""

    def spoil(run: Path) -> None:
        file = run / "checkpoints" / STEP / name
        tensors = load_file(file)
        alter(tensors)
        save_file(tensors, file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        _progress(lambda record: record["sha256"].update({name: digest}))(run)

    return spoil


def _json(name: str, alter: Alter) -> Callable[[Path], object]:
    def spoil(run: Path) -> None:
        record = json.loads((run / name).read_text())
        alter(record)
        (run / name).write_text(json.dumps(record))

    return spoil


def _text(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def _option(value: Any, key: str = "lr") -> Alter:
    return lambda record: record["optimizers"]["generator"]["groups"][0].update({key: value})


def _weight(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(one for one in tensors.values() if one.is_floating_point())


def _moments(key: str, value: torch.Tensor, tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({name: value.clone() for name in tensors if name.endswith(f"|{key}")})


def _no_checkpoint_was_removed(folder: Path, outcome: Outcome) -> None:
    assert list((folder / "run" / "checkpoints").glob(f"*{STEP}"))


def _left(folder: Path, alter: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> Sequence[object]:
    """A step that was not finite, with another batch."""
    run = _run(folder)
    left = run / "not_finite" / "step_00000003"
    left.mkdir(parents=True)
    shutil.copy(run / "checkpoints" / STEP / "networks.safetensors", left)
    tensors = {"source": torch.zeros(1, 3, 16, 16), "target": torch.zeros(1, 3, 16, 16)}
    said: dict[str, Any] = {"keys": ["a"], "progress": 0.5}
    alter(tensors, said)
    save_file(tensors, left / "process_0.safetensors", metadata={"left": json.dumps(said)})
    return ["replay", left, "--device", "cpu"]


def _begin_with(folder: Path, spoil: Callable[[Path], object]) -> Sequence[object]:
    """A run that begins with what is in another's folder."""
    run = _run(folder)
    spoil(run)
    return [
        "run",
        trained().parent / "small.toml",
        "--out",
        folder / "new",
        "--device",
        "cpu",
        "--set",
        f"train.init_from={run}",
        "--set",
        "train.max_steps=1",
    ]


ATTACKS = (
    [
        Attack(
            FAMILY,
            f"progress.json: {name} = {named(value)} ({index})",
            partial(_resume, spoil=_progress(_set(name, value))),
            ["checkpoint"],
            settled=_no_checkpoint_was_removed,
        )
        for name, values in PROGRESS.items()
        for index, value in enumerate(values)
    ]
    + [
        Attack(
            FAMILY,
            f"progress.json: format_version = {named(value)}",
            partial(_resume, spoil=_progress(_set("format_version", value))),
            ["checkpoint"],
            settled=_no_checkpoint_was_removed,
        )
        for value in (-1, 99, "3", None, 10**40, NAN)
    ]
    + [
        Attack(
            FAMILY,
            f"progress.json: an optimizer whose {key} is {named(value)}",
            partial(_resume, spoil=_progress(_option(value, key))),
            ["checkpoint"],
            settled=_no_checkpoint_was_removed,
        )
        for key, value in (
            ("lr", NAN),
            ("lr", "fast"),
            ("lr", None),
            ("eps", INFINITE),
            ("betas", [NAN, 0.9]),
            ("betas", [0.9]),
        )
    ]
    + [
        Attack(
            FAMILY,
            f"progress.json: {called}",
            partial(_resume, spoil=_text(f"checkpoints/{STEP}/progress.json", text)),
            ["damaged"],
            settled=_no_checkpoint_was_removed,
        )
        for called, text in (
            ("a list", "[]"),
            ("a number", "5"),
            ("a text", '"x"'),
            ("null", "null"),
            ("deep", "[" * 100_000),
            ("empty", ""),
        )
    ]
    + [
        Attack(
            FAMILY,
            f"networks of a checkpoint: {called}",
            partial(_resume, spoil=_tensors("networks.safetensors", alter)),
            ["checkpoint"],
            settled=_no_checkpoint_was_removed,
        )
        for called, alter in (
            ("NaN", lambda tensors: _weight(tensors).fill_(NAN)),
            ("infinite", lambda tensors: _weight(tensors).fill_(INFINITE)),
            ("none", lambda tensors: tensors.clear()),
            ("of other shapes", lambda tensors: tensors.update({name: torch.zeros(3) for name in list(tensors)[:1]})),
            ("of names with controls", lambda tensors: tensors.update({"generator|\x1b[2J\u202e": torch.zeros(1)})),
        )
    ]
    + [
        Attack(
            FAMILY,
            f"moments of a checkpoint: {called}",
            partial(_resume, spoil=_tensors("optimizers.safetensors", alter)),
            ["checkpoint"],
            settled=_no_checkpoint_was_removed,
        )
        for called, alter in (
            ("of another parameter", lambda tensors: tensors.update({"generator|other|exp_avg": torch.zeros(1)})),
            ("of no parameter", lambda tensors: tensors.update({"generator|x": torch.zeros(1)})),
            ("of other shapes", partial(_moments, "exp_avg", torch.zeros(3))),
            ("of steps that are NaN", partial(_moments, "step", torch.tensor(NAN))),
            ("of steps before the first", partial(_moments, "step", torch.tensor(-1.0))),
            ("of many steps each", partial(_moments, "step", torch.zeros(4))),
        )
    ]
    + [
        Attack(
            FAMILY,
            f"environment.json: {name} = {named(value)} ({index})",
            partial(_resume, spoil=_json("environment.json", _set(name, value))),
            ["environment.json", "damaged"],
        )
        for name, values in ENVIRONMENT.items()
        for index, value in enumerate(values)
    ]
    + [
        Attack(FAMILY, f"{file}: {called}", partial(_resume, spoil=_text(file, text)), [file, "damaged"])
        for file in ("environment.json",)
        for called, text in (
            ("empty", ""),
            ("a list", "[]"),
            ("deep", "[" * 100_000),
            ("no JSON", "{"),
            ("half a character", '{"a": "\\ud800"}'),
            ("a long number", '{"a": ' + "9" * 5000 + "}"),
        )
    ]
    + [
        Attack(FAMILY, f"{file}: {called}", partial(_resume, spoil=_text(file, text)), codes=(0,))
        for file in ("metrics.jsonl", "changes.jsonl", "bad_data.jsonl")
        for called, text in (
            ("no JSON", "{\n"),
            ("other types", '5\n[]\n"x"\nnull\n{}\n{"step": "x"}\n{"step": 1}\n{"step": [], "split": {}}\n'),
            ("deep", "[" * 100_000 + "\n"),
            ("not UTF-8", "\udcff\n".encode("utf-8", "surrogateescape").decode("latin-1")),
        )
    ]
    + [
        Attack(
            FAMILY,
            f"validation.json of a run that is over: {called}",
            says=["validation.json", "damaged"],
            prepare=lambda folder, text=text: [*_resume(folder, _text("validation.json", text))[:-2]],
        )
        for called, text in (
            ("a list", "[]"),
            ("no JSON", "{"),
            ("other types", '{"complete": false, "images": "x"}'),
            ("no numbers", '{"coverage": "x"}'),
        )
    ]
    + [
        Attack(FAMILY, f"replay of a step with {called}", partial(_left, alter=alter), ["step_00000003"])
        for called, alter in (
            ("keys that are no list", lambda tensors, said: said.update(keys=5)),
            ("keys that are numbers", lambda tensors, said: said.update(keys=[1])),
            ("no progress", lambda tensors, said: said.pop("progress")),
            ("a progress that is a text", lambda tensors, said: said.update(progress="x")),
            ("a progress of NaN", lambda tensors, said: said.update(progress=NAN)),
            ("images that are none", lambda tensors, said: tensors.update(source=torch.zeros(5))),
            (
                "images of whole numbers",
                lambda tensors, said: tensors.update(source=torch.zeros(1, 3, 16, 16, dtype=torch.int64)),
            ),
            ("no target", lambda tensors, said: tensors.pop("target")),
            ("images of no size", lambda tensors, said: tensors.update(source=torch.zeros(1, 3, 0, 0))),
            ("other channels", lambda tensors, said: tensors.update(source=torch.zeros(1, 7, 16, 16))),
            ("sides of two sizes", lambda tensors, said: tensors.update(target=torch.zeros(1, 3, 40, 8))),
        )
    ]
    + [
        Attack(
            FAMILY,
            "beginning with a checkpoint of another kind",
            partial(_begin_with, spoil=_progress(_set("sha256", {}))),
            codes=(0,),
        ),
        Attack(
            FAMILY,
            "beginning with networks that are none",
            codes=(0,),
            prepare=partial(_begin_with, spoil=_tensors("networks.safetensors", lambda tensors: tensors.clear())),
        ),
    ]
)
