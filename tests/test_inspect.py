"""What a model file says of itself, and how it says that it is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import p2pkit as library
from tests.conftest import Call, train, untrained_model
from tests.model_files import change, change_header, described
from tests.test_command_line import WITHOUT_TORCH, too_long


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return untrained_model(tmp_path / "model.safetensors", "unet", depth=4, width=4, norm="none")


def test_it_says_what_the_model_is(model: Path, p2pkit: Call) -> None:
    said = p2pkit("inspect", model).out
    for line in (
        "generator: unet",
        "source range: that of its type",
        'norm = "none"',
        "source channels: 3",
        "step: 7",
        "policy: batch norm by each image's own statistics (sample), dropout and other noise drawn by --seed",
        "(F32)",
        "recipe: not known",
        "source nodata: none but what a file names itself",
        "source fill: none, sources with such values are refused",
        "encoding: none, sources are taken as they are",
        "resize: none, sources keep their size",
        "stored as: whole images, not halves of files",
        "source size: not known, so files of two images side by side are not recognised",
    ):
        assert line in " ".join(said.split())
    assert too_long(said) == [] and "…" not in said
    described = p2pkit("inspect", model.parent, "--json").json
    weights = load_file(model)
    assert described["weights"]["values"] == sum(value.numel() for value in weights.values())
    assert described["weights"]["tensors"] == len(weights)
    assert described["bytes"] == model.stat().st_size
    assert described["policy"] == {"norm": "sample", "dropout": True}


def test_the_recipe_of_a_model_makes_it_again(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    model = train(p2pkit, recipe, tmp_path / "run") / "model.safetensors"
    again = tmp_path / "again.toml"
    again.write_text(p2pkit("inspect", model, "--recipe").out)
    assert (train(p2pkit, again, tmp_path / "again") / "model.safetensors").read_bytes() == model.read_bytes()


def test_it_needs_neither_torch_nor_the_plugin(model: Path) -> None:
    change_header(model, generator="vanished", distribution="p2pkit-x")
    program = WITHOUT_TORCH.replace('assert "pydantic" not in sys.modules, "pydantic was imported"', "")
    done = subprocess.run([sys.executable, "-c", program, "inspect", str(model)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generator: vanished" in done.stdout and "distribution: p2pkit-x" in done.stdout


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "no such model file"),
        (lambda file: file.write_bytes(b""), "damaged or incomplete"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "damaged or incomplete"),
        (lambda file: file.write_bytes(file.read_bytes()[:500]), "damaged or incomplete"),
        (lambda file: save_file(load_file(file), file), "not a p2pkit model"),
        (lambda file: change(file, format_version=4), "Upgrade p2pkit"),
        (lambda file: change(file, header={}), "header of the model file is damaged"),
    ],
    ids=["missing", "empty", "truncated", "header cut", "foreign", "newer", "headless"],
)
def test_bad_files_are_named_as_what_they_are(spoil: Any, said: str, model: Path, p2pkit: Call) -> None:
    spoil(model)
    outcome = p2pkit("inspect", model)
    assert outcome.code == 2 and str(model) in outcome.err and said in outcome.err and outcome.out == ""


def test_weights_that_are_not_those_written_are_refused(model: Path, p2pkit: Call) -> None:
    content = bytearray(model.read_bytes())
    content[-1000] ^= 1
    model.write_bytes(content)
    assert p2pkit("inspect", model).code == 0  # it does not read them
    outcome = p2pkit("translate", model, model.parent, "--out", model.parent / "out")
    assert outcome.code == 2 and "the weights are damaged" in outcome.err


@pytest.mark.parametrize("name", ["step", "distribution"])
def test_a_header_that_is_not_the_one_written_is_refused(name: str, model: Path, p2pkit: Call) -> None:
    content = model.read_bytes()
    before = {"step": b'\\"step\\": 7', "distribution": b'\\"distribution\\": \\"p2pkit'}[name]
    assert content.count(before) == 1
    model.write_bytes(content.replace(before, before[:-1] + bytes([before[-1] ^ 1])))
    outcome = p2pkit("inspect", model)
    assert outcome.code == 2 and "its checksum is not that of what it says" in outcome.err


@pytest.mark.parametrize("checksum", ["a checksum of the weights", "none"])
def test_models_of_the_first_format_are_still_read(checksum: str, model: Path) -> None:
    said = described(model)
    del said["sha256_of_the_rest"]
    if checksum == "none":
        del said["sha256_of_the_weights"]
    save_file(load_file(model), model, metadata={"p2pkit": json.dumps({**said, "format_version": 1})})
    assert library.load_model(model).header.step == 7
