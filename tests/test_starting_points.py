"""Runs that begin with the weights of another model, and runs that are resumed with other limits and rates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import p2pkit as toolkit
from p2pkit.inference.model_file import read_header, read_model
from p2pkit.training.starting_point import adapted, in_channels
from tests.conftest import Call, lines, picture, save

CPU = ("--device", "cpu")
STILL = ("--set", "optimizer.lr=1e-12", "--set", "train.max_steps=1")
"""A run that leaves weights where they were."""


def networks(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step_{step:08}" / "networks.safetensors")


@pytest.fixture
def trained(p2pkit: Call, recipe: Path, tmp_path: Path) -> Path:
    assert p2pkit("run", recipe, "--out", tmp_path / "trained", *CPU).code == 0
    return tmp_path / "trained"


def settings(**values: object) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]


def test_a_run_resumed_with_more_steps_equals_the_longer_run(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = ("run", recipe, *CPU)
    assert p2pkit(*run, *settings(train__max_steps=120), "--out", tmp_path / "long").code == 0
    assert p2pkit(*run, *settings(train__max_steps=60), "--out", tmp_path / "short").code == 0
    resumed = p2pkit("run", "--resume", tmp_path / "short", *settings(train__max_steps=120), *CPU)
    assert resumed.code == 0 and "from step 60 on: train.max_steps = 120 (it was 60)" in resumed.err
    one, other = networks(tmp_path / "long", 120), networks(tmp_path / "short", 120)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    moments = [
        (tmp_path / run / "checkpoints" / "step_00000120" / "optimizers.safetensors").read_bytes()
        for run in ("long", "short")
    ]
    assert moments[0] == moments[1]
    (change,) = [json.loads(line) for line in (tmp_path / "short" / "changes.jsonl").read_text().splitlines()]
    assert change["step"] == 60 and change["changes"] == {"train.max_steps": [60, 120]} and change["date"]
    assert read_header(tmp_path / "short" / "model.safetensors").step == 120
    again = toolkit.resume(tmp_path / "short", overrides={"train.max_steps": 122}, device="cpu")
    assert again.step == 122


def test_a_changed_rate_holds_from_there_on(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    every = settings(train__log_every=2, train__max_steps=4, optimizer__lr=1e-3)
    assert p2pkit("run", recipe, *every, "--out", run, *CPU).code == 0
    more = settings(train__max_steps=8, optimizer__lr=5e-4, optimizer__weight_decay=0.25, schedule__name="constant")
    assert p2pkit("run", "--resume", run, *more, *CPU).code == 0
    rates = {line["step"]: line["generator/lr"] for line in lines(run) if line["split"] == "train"}
    assert rates == {2: 1e-3, 4: 1e-3, 6: 5e-4, 8: 5e-4}
    progress = json.loads((run / "checkpoints" / "step_00000008" / "progress.json").read_text())
    assert {group["weight_decay"] for group in progress["optimizers"]["generator"]["groups"]} == {0.25}


@pytest.mark.parametrize(
    "change", ["generator.width=8", "transform.crop_size=8", "loader.batch_size=3", "run.seed=4", "optimizer.name=sgd",
               'train.precision="bf16"', "data.root=elsewhere", "train.ema_decay=0.9"],
)  # fmt: skip
def test_what_networks_and_data_depend_on_is_not_changed(change: str, trained: Path, p2pkit: Call) -> None:
    before = (trained / "recipe.toml").read_bytes()
    refused = p2pkit("run", "--resume", trained, "--set", change)
    assert refused.code == 2 and change.partition("=")[0] in refused.err
    assert f'train.init_from="{trained}"' in refused.err
    assert (trained / "recipe.toml").read_bytes() == before and not (trained / "changes.jsonl").exists()


def test_a_limit_that_is_behind_another_is_said(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    both = settings(train__max_steps=2, train__epochs=1)
    assert p2pkit("run", recipe, *both, "--out", tmp_path / "run", *CPU).code == 0
    resumed = p2pkit("run", "--resume", tmp_path / "run", *settings(train__epochs=3), *CPU)
    assert "(the limit that comes first ends it: train.epochs = 3, train.max_steps = 2)" in resumed.err


def test_a_run_begins_with_the_networks_of_another(trained: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    begin = settings(train__init_from=f'"{trained}"')
    outcome = p2pkit("run", recipe, *begin, *STILL, "--out", tmp_path / "run", *CPU)
    assert outcome.code == 0 and "generator begins with" in outcome.err and "initialised" not in outcome.err
    before, after = networks(trained, 4), networks(tmp_path / "run", 1)
    for key in before:
        if "running" not in key and "num_batches" not in key:
            assert torch.allclose(before[key], after[key], atol=1e-7), key
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header.init_from is not None and header.init_from.path == str(trained) and header.init_from.step == 4
    shown = p2pkit("inspect", tmp_path / "run")
    assert str(trained) in "".join(shown.out.split()) and header.init_from.sha256_of_weights[:16] in shown.out
    # the origin is not needed again
    shutil.rmtree(trained)
    assert p2pkit("run", "--resume", tmp_path / "run", *settings(train__max_steps=2), *CPU).code == 0
    assert read_header(tmp_path / "run" / "model.safetensors").init_from == header.init_from


@pytest.mark.parametrize("with_environment", [False, True])
def test_a_checkpoint_of_another_run_lends_no_network(
    with_environment: bool, trained: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert p2pkit("run", recipe, "--out", other, *settings(run__seed=5), *CPU).code == 0
    for name in ("checkpoints", *(["environment.json"] if with_environment else [])):
        place = other / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.copytree(trained / name, place) if place.suffix == "" else shutil.copy(trained / name, place)
    new = ("run", recipe, "--out", tmp_path / "new", *STILL, *CPU)
    refused = p2pkit(*new, *settings(train__init_from=other))
    assert refused.code == 2 and "step 4 is of another run than model.safetensors" in refused.err
    alone = p2pkit(*new, *settings(train__init_from=other / "model.safetensors"))
    assert alone.code == 0 and "discriminator begins anew" in alone.err


def test_a_model_file_has_the_generator_alone(trained: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    begin = settings(train__init_from=f'"{trained / "model.safetensors"}"')
    outcome = p2pkit("run", recipe, *begin, *STILL, "--out", tmp_path / "run", *CPU)
    assert outcome.code == 0
    assert "discriminator begins anew: the model file holds the generator alone; give the run folder" in outcome.err
    before, after = networks(trained, 4), networks(tmp_path / "run", 1)
    weights = [key for key in before if key.endswith("weight") and before[key].ndim == 4]
    same = {key: torch.allclose(before[key], after[key], atol=1e-7) for key in weights}
    assert all(same[key] for key in same if key.startswith("generator"))
    assert not any(same[key] for key in same if key.startswith("discriminator"))


def gray(root: Path, pairs: Path) -> Path:
    """The pairs with a source of one channel."""
    for split in ("train", "test"):
        for index, file in enumerate(sorted((pairs / split).iterdir())):
            pixels = np.asarray(Image.open(file))
            save(root / split / "source" / f"{index}.png", pixels[:, :24].mean(axis=2).astype(np.uint8))
            save(root / split / "target" / f"{index}.png", pixels[:, 24:])
    return root


def test_a_first_layer_of_other_channels_adapts(
    trained: Path, recipe: Path, pairs: Path, p2pkit: Call, tmp_path: Path
) -> None:
    data = f'data={{name = "paired_folders", root = "{gray(tmp_path / "gray", pairs)}"}}'
    begin = ("--set", data, *settings(train__init_from=f'"{trained}"'))
    checked = p2pkit("check", recipe, *begin)
    assert checked.code == 0 and "adapted to other channels" in " ".join(checked.out.split())
    outcome = p2pkit("run", recipe, *begin, *STILL, "--out", tmp_path / "run", *CPU)
    assert outcome.code == 0 and "(3 to 1) is adapted" in outcome.err and "(6 to 4) is adapted" in outcome.err
    before, after = networks(trained, 4), networks(tmp_path / "run", 1)
    (key,) = [key for key in before if before[key].shape != after[key].shape and key.startswith("generator")]
    assert torch.allclose(after[key], before[key].sum(dim=1, keepdim=True), atol=1e-6)
    (key,) = [key for key in before if before[key].shape != after[key].shape and key.startswith("discriminator")]
    assert torch.allclose(after[key][:, 1:], before[key][:, 3:], atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 4), (4, 3), (3, 6)])
def test_like_channels_give_what_they_gave(before: int, after: int) -> None:
    weight = torch.randn(5, before, 4, 4)
    image = torch.randn(1, 1, 9, 9)
    one = torch.nn.functional.conv2d(image.repeat(1, before, 1, 1), weight.mean(1, True).repeat(1, before, 1, 1))
    other = torch.nn.functional.conv2d(
        image.repeat(1, after, 1, 1), in_channels(weight.mean(1, True).repeat(1, before, 1, 1), after)
    )
    assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(("before", "after"), [((1, 1), (3, 3)), ((3, 3), (1, 1)), ((3, 3), (3, 1)), ((3, 1), (1, 3))])
def test_what_a_discriminator_sees_is_adapted_by_sides(before: tuple[int, int], after: tuple[int, int]) -> None:
    weight = torch.cat([torch.full((1, before[0], 1, 1), 10.0), torch.ones(1, before[1], 1, 1)], dim=1)
    found = adapted(weight, torch.zeros(1, sum(after), 1, 1), (before[1], after[1])).flatten()
    assert torch.allclose(found[: after[0]], torch.tensor(10.0 * before[0] / after[0]))
    assert torch.allclose(found[after[0] :], torch.tensor(before[1] / after[1]))


def test_classes_keep_their_weights() -> None:
    weight, own = torch.randn(2, 5, 1, 1), torch.randn(2, 8, 1, 1)
    found = adapted(weight, own, encoded=True)
    assert torch.equal(found[:, :5], weight) and torch.equal(found[:, 5:], own[:, 5:])
    assert torch.equal(adapted(weight, own[:, :3], encoded=True), weight[:, :3])


def test_what_cannot_be_cut_is_refused_before_anything_is_written(trained: Path, p2pkit: Call) -> None:
    before = (trained / "recipe.toml").read_bytes()
    refused = p2pkit("run", "--resume", trained, *settings(train__accumulate=3, train__max_steps=8), *CPU)
    assert refused.code == 2 and "train.accumulate = 3" in refused.err
    assert (trained / "recipe.toml").read_bytes() == before and not (trained / "changes.jsonl").exists()


def test_the_rate_of_one_network_changes(trained: Path, p2pkit: Call) -> None:
    resumed = p2pkit("run", "--resume", trained, *settings(optimizer__generator__lr=1e-5, train__max_steps=6), *CPU)
    assert resumed.code == 0, resumed.err
    (change,) = [json.loads(line)["changes"] for line in (trained / "changes.jsonl").read_text().splitlines()]
    assert set(change) == {"optimizer.generator.lr", "train.max_steps"}


def test_what_does_not_fit_is_listed(trained: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    begin = (*settings(train__init_from=f'"{trained}"', generator__width=6), *STILL)
    outcome = p2pkit("run", recipe, *begin, "--out", tmp_path / "run", *CPU)
    if outcome.code == 2:
        assert "no tensor fits the recipe's generator; the model has generator.width = 4" in outcome.err
    else:
        assert "not from there, but initialised:" in outcome.err and "generator.width = 4" in outcome.err
    other = (*settings(train__init_from=f'"{trained}"', generator__name="resnet"), *STILL)
    refused = p2pkit("check", recipe, *other)
    assert refused.code == 2 and 'set generator.name = "' in refused.err
    assert p2pkit("check", recipe, *settings(train__init_from='"nowhere.safetensors"')).code == 2


def deep(root: Path, top: int, dtype: Any = np.uint16) -> Path:
    for index in range(4):
        pixels = (picture(24, 24, index, 1).astype(float) / 255 * top).astype(dtype)
        save(root / "train" / "source" / f"{index}.png", pixels)
        save(root / "train" / "target" / f"{index}.png", top - pixels)
    return root


def test_ranges_are_those_of_the_model_unless_set(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    def data(root: Path) -> tuple[str, str]:
        return "--set", f'data={{name = "paired_folders", root = "{root}"}}'

    first, second = deep(tmp_path / "first", 4000), deep(tmp_path / "second", 1000)
    assert p2pkit("run", recipe, *data(first), "--out", tmp_path / "one", *CPU).code == 0
    ranges = read_header(tmp_path / "one" / "model.safetensors").ranges
    assert ranges["source"][1] > 3000
    begin = (*data(second), *settings(train__init_from=f'"{tmp_path / "one"}"'), *STILL)
    outcome = p2pkit("run", recipe, *begin, "--out", tmp_path / "two", *CPU)
    assert outcome.code == 0 and "become -1 to 1, as for the model" in outcome.err
    assert read_header(tmp_path / "two" / "model.safetensors").ranges == ranges
    own = ("--set", "source.range=[0, 1000]", "--set", 'target.range="auto"')
    assert p2pkit("run", recipe, *begin, *own, "--out", tmp_path / "three", *CPU).code == 0
    found = read_header(tmp_path / "three" / "model.safetensors").ranges
    assert found["source"] == (0, 1000) and found["target"][1] <= 1000
    eight = deep(tmp_path / "eight", 250, np.uint8)
    outcome = p2pkit("run", recipe, *begin, *data(eight), "--out", tmp_path / "four", *CPU)
    assert outcome.code == 0 and "source pixels are of uint8, the model's of uint16" in outcome.err
    assert read_header(tmp_path / "four" / "model.safetensors").ranges == {}


def test_ema_weights_are_what_a_run_begins_with(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    averaged = settings(train__ema_decay=0.5)
    assert p2pkit("run", recipe, *averaged, "--out", tmp_path / "one", *CPU).code == 0
    begin = (*settings(train__init_from=f'"{tmp_path / "one"}"'), *STILL)
    assert p2pkit("run", recipe, *begin, "--out", tmp_path / "two", *CPU).code == 0
    one, two = (read_model(tmp_path / run / "model.safetensors")[1] for run in ("one", "two"))
    for key, tensor in one.items():
        if key.endswith("weight"):
            assert torch.allclose(tensor, two[key], atol=1e-6), key
