"""Both parts of the training through the command line: the coarse part first, then all, and what becomes of a model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import load_file
from street_scenes import street, write_cityscapes

from tests.conftest import Call, lines, save

COARSE = "network.trunk.coarse."
STEADY = ("--set", "optimizer.name=sgd", "--set", "optimizer.lr=0.001")
"""With which rounding stays small."""


def weights_at(run: Path, step: int, file: str = "networks") -> dict[str, Any]:
    return load_file(run / f"checkpoints/step_{step:08}/{file}.safetensors")


def coarse_part(weights: dict[str, Any]) -> dict[str, Any]:
    head = f"generator|{COARSE}"
    return {name.removeprefix(head): value for name, value in weights.items() if name.startswith(head)}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys() and one
    return all(np.array_equal(one[name], other[name]) for name in one)


def trunk_of(model: Path) -> dict[str, Any]:
    head = "network.trunk."
    return {name.removeprefix(head): value for name, value in load_file(model).items() if name.startswith(head)}


def test_the_coarse_part_begins_as_it_was_and_joins_in_later(
    local_recipe: Path, coarse_run: Path, tmp_path: Path, program: Call
) -> None:
    # a decay of weights would change them without any gradient
    outcome = program(
        "run", local_recipe, "--out", tmp_path / "run", "--set", "optimizer.generator.name=adamw",
        "--set", "optimizer.generator.weight_decay=0.1", "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    run, begun = tmp_path / "run", trunk_of(coarse_run / "model.safetensors")
    parts = [coarse_part(weights_at(run, step)) for step in (1, 2, 3)]
    assert same(parts[0], begun) and same(parts[1], begun) and not same(parts[2], begun)
    first, second = (weights_at(run, step) for step in (1, 2))
    own = [name for name in first if name.startswith("generator|") and COARSE not in name]
    assert any(not np.array_equal(first[name], second[name]) for name in own)
    moments = weights_at(run, 2, "optimizers")
    assert not coarse_part(moments) and any("trunk.down" in name for name in moments)
    assert {
        float(value) for name, value in coarse_part(weights_at(run, 4, "optimizers")).items() if "|step" in name
    } == {2.0}
    assert {"generator/lsgan", "generator/feature_matching", "discriminator/lsgan"} <= lines(run)[0].keys()


@pytest.mark.parametrize("step", [1, 3])
def test_runs_resume_exactly_in_both_phases_without_the_coarse_model(
    step: int, local_recipe: Path, coarse_run: Path, tmp_path: Path, program: Call
) -> None:
    run = tmp_path / "run"
    assert program("run", local_recipe, "--out", run, "--device", "cpu").code == 0
    whole = weights_at(run, 4), weights_at(run, 4, "optimizers"), (run / "model.safetensors").read_bytes()
    for later in range(step + 1, 5):
        shutil.rmtree(run / f"checkpoints/step_{later:08}")
    shutil.rmtree(coarse_run)
    outcome = program("run", "--resume", run, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert same(weights_at(run, 4), whole[0]) and same(weights_at(run, 4, "optimizers"), whole[1])
    assert (run / "model.safetensors").read_bytes() == whole[2]


def test_two_enhancers_begin_with_a_model_of_one(local_recipe: Path, tmp_path: Path, program: Call) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert program("run", local_recipe, "--out", one, "--set", "train.max_steps=1").code == 0
    outcome = program(
        "run", local_recipe, "--out", two, "--set", f"method.coarse_model={one}", "--set", "generator.width=2",
        "--set", "generator.enhancers=2", "--set", "train.max_steps=1", "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert same(coarse_part(weights_at(two, 1)), trunk_of(one / "model.safetensors"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("generator.width=3", "hd_global with width = 8, halvings = 2, blocks = 1, for sources encoded in 28 channels; "
         "expected hd_global with width = 6,"),
        ("encoding.classes=30", "in 28 channels; expected hd_global with width = 8, halvings = 2, blocks = 1, for "
         "sources encoded in 31 channels"),
        ("generator.enhancers=2", "expected hd_local with width = 8, halvings = 2, blocks = 1, enhancers = 1,"),
        ("method.coarse_model=nowhere.safetensors", "nowhere.safetensors: there is no such model file"),
        ("generator.name=hd_global", 'choose generator.name = "hd_local"'),
    ],
)  # fmt: skip
def test_a_coarse_model_that_does_not_fit_is_reported(
    setting: str, message: str, local_recipe: Path, tmp_path: Path, program: Call
) -> None:
    outcome = program("run", local_recipe, "--out", tmp_path / "run", "--set", setting)
    assert outcome.code == 2 and message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_coarse_model_of_another_kind_is_reported(
    coarse_recipe: Path, local_recipe: Path, tmp_path: Path, program: Call
) -> None:
    other = tmp_path / "other"
    few = ("--set", "generator.width=2", "--set", "generator.blocks=1", "--set", "train.max_steps=1")
    assert program("run", coarse_recipe, "--out", other, "--set", "generator.name=resnet", *few).code == 0
    outcome = program("run", local_recipe, "--out", tmp_path / "run", "--set", f"method.coarse_model={other}")
    assert outcome.code == 2 and f"{other} holds a ResNet; expected hd_global" in outcome.err


def test_nothing_is_fixed_without_a_coarse_model(program: Call, streets: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "alone.toml"
    recipe.write_text(
        'extends = "hd:cityscapes_1024"\n[generator]\nhalvings = 2\nwidth = 2\n[discriminator]\nwidth = 2\nscales = 2\n'
        '[[losses]]\nname = "lsgan"\n[transform]\nload_size = [64, 128]\n'
    )
    outcome = program("run", recipe, "--out", tmp_path / "run", "--set", f"data.root={streets}")
    assert outcome.code == 2 and "give that run's model file, method.coarse_model = PATH" in outcome.err


def test_a_model_translates_maps_of_instances_as_they_are(
    coarse_run: Path, streets: Path, tmp_path: Path, program: Call
) -> None:
    file = streets / "gtFine/val/lindau/lindau_000000_000019_gtFine_instanceIds.png"
    whole, tiled = tmp_path / "whole", tmp_path / "tiled"
    assert program("translate", coarse_run, file, "--out", whole, "--size", "native").code == 0
    outcome = program("translate", coarse_run, file, "--out", tiled, "--tile", "48", "--overlap", "16")
    assert outcome.code == 0, outcome.err
    files = (whole / file.name, tiled / file.with_suffix(".tif").name)
    one, other = (np.asarray(Image.open(written)).astype(int) for written in files)
    assert one.shape == other.shape == (64, 128, 3)
    assert np.abs(one - other).mean() < one.std() / 4
    # numbers of classes alone fit into 8 bits
    objects, _ = street(1000)
    classes = save(tmp_path / "classes.png", np.where(objects < 1000, objects, 7).astype(np.uint8))
    wide = save(tmp_path / "wide.png", np.where(objects < 1000, objects, 7))
    assert program("translate", coarse_run, classes, wide, "--out", whole).code == 0
    assert (whole / "classes.png").read_bytes() == (whole / "wide.png").read_bytes()


def test_maps_as_stored_are_translated_at_the_size_of_training(
    coarse_run: Path, streets: Path, tmp_path: Path, program: Call
) -> None:
    files = sorted((streets / "gtFine/val/lindau").iterdir())
    for size in ("model", "source"):
        outcome = program("translate", coarse_run, *files, "--out", tmp_path / size, "--size", size)
        assert outcome.code == 0 and "sources are resized to 32x64 (height x width), as in training" in outcome.err
    errors, written = [], [Image.open(tmp_path / "model" / file.name) for file in files]
    for file, image in zip(files, written, strict=True):
        photo = Image.open(str(file).replace("gtFine_instanceIds", "leftImg8bit").replace("gtFine", "leftImg8bit"))
        pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float()
        target = F.interpolate(pixels, (32, 64), mode="bicubic", antialias=True).clamp(0, 255)[0].permute(1, 2, 0)
        errors.append(np.abs(np.asarray(image) - target.numpy()).mean() / 255)
        assert Image.open(tmp_path / "source" / file.name).size == photo.size == (128, 64)
    # outputs are rounded to 8 bits
    assert np.mean(errors) == pytest.approx(lines(coarse_run)[-1]["validation/mae"], abs=1e-3)


def test_a_local_generator_is_exported(local_recipe: Path, tmp_path: Path, program: Call) -> None:
    run = tmp_path / "run"
    assert program("run", local_recipe, "--out", run, "--set", "train.max_steps=2", "--device", "cpu").code == 0
    outcome = program("export", run, "--out", tmp_path / "model.onnx")
    assert outcome.code == 0, outcome.err


def test_without_the_plugin_a_model_reports_what_to_install(
    coarse_run: Path, streets: Path, tmp_path: Path, p2pkit: Call
) -> None:
    outcome = p2pkit("--no-plugin", "hd", "translate", coarse_run, streets / "gtFine", "--out", tmp_path / "out")
    assert outcome.code == 2 and "pip install p2pkit-hd" in outcome.err
    about = json.loads(p2pkit("inspect", coarse_run, "--json").out)
    assert about["distribution"] == about["encoding"]["distribution"] == "p2pkit-hd"


@pytest.mark.slow
def test_two_processes_train_both_phases_as_one_does(
    local_recipe: Path, coarse_run: Path, plugins: Path, tmp_path: Path, program: Call
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert program("run", local_recipe, "--out", one, *STEADY, "--device", "cpu").code == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "p2pkit"]
    command += ["--plugins-dir", plugins, "run", local_recipe, "--out", two, *STEADY, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    parts, begun = [coarse_part(weights_at(two, step)) for step in (2, 4)], trunk_of(coarse_run / "model.safetensors")
    assert same(parts[0], begun) and not same(parts[1], begun)
    ours, theirs = weights_at(one, 4), weights_at(two, 4)
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours) < 1e-5


@pytest.mark.slow
def test_two_hundred_steps_at_256x512_learn_the_streets(tmp_path: Path, program: Call) -> None:
    root = write_cityscapes(tmp_path / "cityscapes", 60, 6, 256, 512)
    settings = (f"data.root={root}", "train.max_steps=200", "loader.cache=memory", "loader.workers=0")
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = program("run", "hd:small", "--out", tmp_path / "run", *words, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    (metrics,) = (line for line in lines(tmp_path / "run") if line["split"] == "validation")
    assert metrics["validation/mae"] < 0.1  # 0.07 was measured


def test_all_scales_of_the_discriminator_are_augmented(coarse_recipe: Path, tmp_path: Path, program: Call) -> None:
    policy = 'discriminator_augmentation.policy=["colour", "translation", "cutout"]'
    adaptive = "discriminator_augmentation.adaptive_target=0.01"
    outcome = program(
        "run", coarse_recipe, "--out", tmp_path / "run", "--set", policy, "--set", adaptive, "--device", "cpu"
    )
    assert outcome.code == 0, outcome.err
    last = lines(tmp_path / "run")[3]
    assert last["generator/feature_matching"] > 0 and last["discriminator/real_sign"] != 0
    assert float(weights_at(tmp_path / "run", 4)["discriminator|network.real_sign"]) == last["discriminator/real_sign"]
