"""What lies beside outputs and says what they were made with, and model files given to every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from p2pkit.images.outputs import SIDECAR
from tests.hostile.attacks import Attack
from tests.hostile.run_folders import trained
from tests.hostile.spoilt import evaluate, export, filled, header, of_text, picture, small_model, translate, weights

FAMILY = "records of outputs"
MODELS = "model files by value"


def _translate_again(folder: Path, line: str, *options: str) -> Sequence[object]:
    """An output is there already, and so is a line on it."""
    out = folder / "out"
    out.mkdir()
    shutil.copy(picture(folder), out / "a.png")
    (out / SIDECAR).write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    return ["translate", small_model(folder), folder / "a.png", "--out", out, "--device", "cpu", *options]


def _begin_with(folder: Path, spoil: object) -> Sequence[object]:
    """A run that begins with a model file."""
    recipe = trained().parent / "small.toml"
    assert callable(spoil)
    spoil(file := small_model(folder))
    return ["run", recipe, "--out", folder / "run", "--device", "cpu", "--set", f"train.init_from={file}"]


def _kept(folder: Path, outcome: object) -> None:
    assert (folder / "out" / "a.png").read_bytes() == (folder / "a.png").read_bytes()


LINES = {
    "no JSON": "{",
    "a list": "[]",
    "a number": "5",
    "a name that is a list": '{"name": ["a.png"]}',
    "deep": '{"name": ' + "[" * 100_000,
    "bytes that are a text": '{"name": "a.png", "bytes": "x"}',
    "bytes that are a list": '{"name": "a.png", "bytes": [1]}',
    "a source that is a number": '{"name": "a.png", "bytes": 1, "source": 5}',
    "options that are deep": json.dumps({"name": "a.png", "options": [[[[[]]]]], "bytes": 5}),
    "a name with a path": '{"name": "../a.png", "bytes": 1}',
    "controls": '{"name": "a.png", "bytes": 1, "model": "\\u001b[2J"}',
    "not UTF-8": "\udcff\udcfe",
}
SPOILT = {
    "a range upside down": header("source_range", [1, 0]),
    "weights of NaN": weights(filled(float("nan"))),
    "no JSON": of_text("{"),
    "a distribution for a shell": header("distribution", "x; id"),
    "no weights": weights(lambda tensors: tensors.clear()),
    "a type that is none": header("target_dtype", "object"),
    "other weights": weights(lambda tensors: tensors.update(a=torch.zeros(1))),
}
ATTACKS = [
    Attack(
        FAMILY,
        f"{called}{' with --overwrite' if options else ''}",
        codes=(0, 2),
        settled=None if options else _kept,
        prepare=partial(_translate_again, **{"line": line})
        if not options
        else lambda folder, line=line: _translate_again(folder, line, "--overwrite"),
    )
    for called, line in LINES.items()
    for options in (False, True)
] + [
    Attack(MODELS, f"{prepare.__name__.strip('_')}: {called}", partial(prepare, spoil=spoil), ["model.safetensors"])
    for prepare in (translate, export, evaluate, _begin_with)
    for called, spoil in SPOILT.items()
    # nothing of the weights fits, which is said of the model, or more than fits, which is no harm
    if prepare is not _begin_with or called not in ("no weights", "other weights")
]
