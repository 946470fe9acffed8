"""``p2pkit evaluate``: a model or a folder of images, measured beside trivial translations."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.utils.jsonl import append_line
from tests.conftest import Call, distribution, lines, picture, save, train
from tests.test_many_processes import launch


@pytest.fixture
def run(recipe: Path, tmp_path: Path, p2pkit: Call) -> Path:
    return train(p2pkit, recipe, tmp_path / "run")


def split_pairs(pairs: Path, into: Path) -> tuple[Path, Path]:
    """The test pairs in two folders."""
    for file in sorted((pairs / "test").iterdir()):
        pixels = np.asarray(Image.open(file))
        save(into / "sources" / file.name, pixels[:, :24])
        save(into / "targets" / file.name, pixels[:, 24:])
    return into / "sources", into / "targets"


def evaluated(p2pkit: Call, *arguments: object) -> Any:
    outcome = p2pkit("evaluate", *arguments, "--json", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_a_run_is_measured_as_it_was_at_its_end(run: Path, p2pkit: Call) -> None:
    found, last = evaluated(p2pkit, run), lines(run)[-1]
    assert found["set"] == "test set" and found["images"] == 2 and found["size"] == [16, 16]
    for row, name in (("model", "validation"), ("source", "source"), ("mean_target", "mean_target")):
        for number, value in found["rows"][row].items():
            assert value == last[f"{name}/{number}"], (row, number)
    each = [image["mae"] for image in found["per_image"]]
    assert np.mean(each) == pytest.approx(found["rows"]["model"]["mae"])
    low, high = found["intervals"]["mae"]
    assert min(each) <= low <= found["rows"]["model"]["mae"] <= high <= max(each)
    assert found["best"][0] == min(found["per_image"], key=lambda image: image["mae"])["key"]
    assert found["best"] == found["worst"][::-1]
    assert found["rows"] == evaluated(p2pkit, run / "model.safetensors")["rows"]


def test_what_is_printed_is_what_json_has(run: Path, p2pkit: Call) -> None:
    found, outcome = evaluated(p2pkit, run), p2pkit("evaluate", run, "--device", "cpu")
    assert outcome.code == 0 and "2 images of the test set, 16x16 (height x width)" in outcome.out
    for row, numbers in found["rows"].items():
        (line,) = [line for line in outcome.out.splitlines() if line.split()[:1] == [row]]
        assert f"{numbers['mae']:.4f}" in line
    assert f"worst by mae: {found['worst'][0]}" in outcome.out


def test_two_folders_stand_for_the_data(run: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    sources, targets = split_pairs(pairs, tmp_path)
    own = evaluated(p2pkit, run)["rows"]
    for arguments in (("--data", sources, "--data", targets), ("--data", sources, targets)):
        rows = evaluated(p2pkit, run, *arguments)["rows"]
        assert rows["model"] == own["model"] and rows["source"] == own["source"]
        assert set(rows) == {"model", "source"}  # nothing was trained on them
    assert evaluated(p2pkit, run, "--data", sources, targets, "--at", "native")["size"] == [24, 24]


def test_the_data_of_another_recipe(run: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    other = tmp_path / "other"
    shutil.copytree(pairs, other)
    (other / "test" / "1.png").unlink()
    recipe = tmp_path / "other.toml"
    recipe.write_text(f'[data]\nname = "side_by_side"\nroot = "{other}"\n')
    assert evaluated(p2pkit, run, "--data", recipe)["images"] == 1
    assert evaluated(p2pkit, run, "--data", recipe, "--split", "train")["images"] == 6
    assert evaluated(p2pkit, run, "--set", f'data.root="{other}"')["images"] == 1
    outcome = p2pkit("evaluate", run, "--split", "val")
    assert outcome.code == 2 and "the data has no val set; it has: train, test" in outcome.err


def test_outputs_of_any_program_against_targets(pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    outputs, targets = split_pairs(pairs, tmp_path)
    found = evaluated(p2pkit, outputs, targets, "--metrics", "mae,psnr")
    one, other = (
        np.stack([np.asarray(Image.open(file)).astype(float) / 255 for file in sorted(folder.iterdir())])
        for folder in (outputs, targets)
    )
    assert found["rows"]["outputs"]["mae"] == pytest.approx(np.abs(one - other).mean(), abs=1e-6)
    psnr = np.mean([-10 * np.log10(np.square(a - b).mean()) for a, b in zip(one, other, strict=True)])
    assert found["rows"]["outputs"]["psnr"] == pytest.approx(psnr, abs=1e-4)
    assert list(found["rows"]) == ["outputs"] and found["rows"]["outputs"].keys() == {"mae", "psnr"}
    same = evaluated(p2pkit, targets, targets, "--metrics", "mae,psnr")
    assert same["rows"]["outputs"] == {"mae": 0.0, "psnr": 100.0}


def test_values_of_more_than_8_bits_are_stated(tmp_path: Path, p2pkit: Call) -> None:
    for folder, shift in (("a", 0), ("b", 6554)):
        (tmp_path / folder).mkdir()
        pixels = picture(16, 16, 1, 1)[:, :, 0].astype(np.uint16) * 200
        Image.fromarray(pixels + np.uint16(shift)).save(tmp_path / folder / "1.png")
    outcome = p2pkit("evaluate", tmp_path / "a", tmp_path / "b", "--metrics", "mae")
    assert "target values 0 to 65535 of uint16 are 0 to 1 to the metrics" in outcome.out
    found = evaluated(p2pkit, tmp_path / "a", tmp_path / "b", "--metrics", "mae")
    assert found["rows"]["outputs"]["mae"] == pytest.approx(6554 / 65535, abs=1e-6)
    assert found["values"] == "0 to 65535 of uint16"


def spoil(kind: str, folder: Path) -> None:
    """Make the second of the targets unusable."""
    file = folder / "1.png"
    if kind == "size":
        save(file, picture(20, 24, 3))
    elif kind == "nan":
        values = np.full((24, 24, 3), np.nan, dtype=np.float32)
        file.unlink()
        np.save(folder / "1.npy", values)
    elif kind == "missing":
        file.unlink()
    elif kind == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif kind == "no folder":
        shutil.rmtree(folder)
    elif kind == "channels":
        for each in folder.iterdir():
            save(each, picture(24, 24, 3, 1))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("size", "differ in size (height x width)"),
        ("nan", "1.png, its target"),
        ("missing", "every source needs a target of the same name"),
        ("empty", "targets"),
        ("no folder", "there is no such folder"),
        ("channels", "channels"),
    ],
)
def test_folders_that_cannot_be_compared(kind: str, message: str, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    outputs, targets = split_pairs(pairs, tmp_path)
    spoil(kind, targets)
    outcome = p2pkit("evaluate", outputs, targets, "--device", "cpu")
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_a_single_image_has_no_interval(run: Path, p2pkit: Call) -> None:
    found = evaluated(p2pkit, run, "--max-images", 1)
    assert found["images"] == 1 and found["intervals"] == {} and found["rows"]["model"]["mae"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "psnrr"], "did you mean 'psnr'"),
        (["--data", "a", "--data", "b", "--data", "c"], "OUTPUTS and TARGETS"),
        (["a", "b"], "OUTPUTS and TARGETS"),
        (["--data", "."], "give two, of sources and of targets, or a recipe"),
        (["--set", "metrics.0.nonsense=1"], "nonsense"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, run: Path, p2pkit: Call) -> None:
    outcome = p2pkit("evaluate", run, *arguments)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_a_model_of_other_channels_is_refused(run: Path, tmp_path: Path, p2pkit: Call) -> None:
    for folder in ("a", "b"):
        save(tmp_path / folder / "1.png", picture(24, 24, 1, 1))
    outcome = p2pkit("evaluate", run, "--data", tmp_path / "a", tmp_path / "b")
    assert outcome.code == 2 and "its sources have 1 channel, those of the model 3" in outcome.err


def test_the_same_from_python(run: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    found = evaluated(p2pkit, run)
    result = library.evaluate(run, device="cpu")
    assert result.rows == found["rows"] and result.not_beaten == found["not_beaten"]
    outputs, targets = split_pairs(pairs, tmp_path)
    assert library.compare(outputs, targets).rows["outputs"]["mae"] > 0
    assert library.evaluate(run, (outputs, targets), device="cpu").rows["model"] == result.rows["model"]


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_give_the_numbers_of_one(
    processes: int, pairs: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    for index in range(2, 11):  # a number that no round of images divides
        left = picture(24, 24, index + 200)
        save(pairs / "test" / f"{index}.png", np.concatenate([left, 255 - left], axis=1))
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_steps=1", "validation.baseline=none")
    metrics = ("--metrics", "mae,psnr,ssim,lab_histogram", "--json")
    printed = []
    for count in (1, processes):
        running = launch("evaluate", run, *metrics, processes=count)
        out, errors = running.communicate(timeout=120)
        assert running.returncode == 0, errors
        printed.append(json.loads(out))
    assert printed[0] == printed[1] and printed[0]["images"] == 11


def test_bad_data_ends_all_processes_alike(pairs: Path, run: Path) -> None:
    file = pairs / "test" / "1.png"
    file.write_bytes(file.read_bytes()[:300])
    running = launch("evaluate", run)
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    for rank in (0, 1):
        assert re.search(rf"\[process {rank} of 2 on .*\] Error: {file}: the image cannot be read", errors)


NAN_OF_DARK = """
import p2pkit
from p2pkit.builtin.metrics.pixels import MeanOverImages


class Dark(MeanOverImages):
    higher_is_better = False
    measured = staticmethod(lambda output, target: (target.mean((1, 2, 3)) - 0.45).clamp(min=0).log() * 0 + 1)


@p2pkit.hookimpl
def register_metrics(register):
    register("dark", Dark)
"""


def test_a_number_that_is_nan_is_named_and_null_in_json(
    pairs: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, targets = split_pairs(pairs, tmp_path)
    save(targets / "0.png", np.zeros((24, 24, 3), dtype=np.uint8))
    save(targets / "1.png", np.full((24, 24, 3), 200, dtype=np.uint8))
    (tmp_path / "darkness.py").write_text(NAN_OF_DARK)
    plugins = distribution(tmp_path / "plugins", "p2pkit-darkness", "0.1", {"darkness": "darkness"})
    monkeypatch.syspath_prepend(tmp_path)
    command = ("--plugins-dir", plugins, "evaluate", outputs, targets, "--metrics", "dark,mae")
    outcome = p2pkit(*command)
    assert outcome.code == 0 and "NOTICE: dark is nan for 1 of the images" in outcome.out
    found = json.loads(p2pkit(*command, "--json").out, parse_constant=pytest.fail)
    assert found["rows"]["outputs"]["dark"] is None and found["per_image"][1]["dark"] == 1
    assert "dark" not in found["intervals"] and found["rows"]["outputs"]["mae"] > 0


def test_logs_hold_what_json_has(tmp_path: Path) -> None:
    append_line(tmp_path / "log.jsonl", {"a": float("nan"), "b": [float("-inf"), 1.5], "c": {"d": float("inf")}})
    line = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)
    assert line == {"a": None, "b": [None, 1.5], "c": {"d": None}}
