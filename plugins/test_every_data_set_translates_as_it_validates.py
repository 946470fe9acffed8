"""For every data set: validation in a run, evaluate, and NumPy on the files of ``translate --size model`` agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F

import p2pkit as library
from p2pkit.inference.model_file import read_model, write_model
from tests.conftest import SMALL, Call, lines, picture, save
from tests.plugins_in_tree import in_tree, registered_by
from tests.web import Site, served


def side_by_side(root: Path) -> dict[str, Any]:
    """Four training pairs and three to test, side by side in files of 32x64."""
    for split, count in (("train", 4), ("test", 3)):
        for index in range(count):
            save(root / split / f"{index}.png", picture(32, 64, index + 100 * (split == "test")))
    return {"root": str(root)}


def folders(root: Path) -> dict[str, Any]:
    """As many in folders, 36x32."""
    for split, count in (("train", 4), ("test", 3)):
        for index in range(count):
            source = picture(36, 32, index + 100 * (split == "test"))
            save(root / split / "source" / f"{index}.png", source)
            save(root / split / "target" / f"{index}.png", 255 - source)
    return {"root": str(root)}


def of_folders(root: Path) -> dict[str, Any]:
    """The targets of folders, for what makes sources of them."""
    return {"of.name": "paired_folders", "of.root": folders(root)["root"]}


def cityscapes(root: Path) -> dict[str, Any]:
    """Maps of instances and photos in Cityscapes' folders, 32x64."""
    for split, count in (("train", 4), ("val", 3)):
        for index in range(count):
            drawn, name = picture(32, 64, index + 100 * (split == "val")), f"{split}/bonn/bonn_{index:06}_000019"
            objects = drawn[:, :, :1].astype(np.uint16) // 32
            objects[8:16] = 26000 + index
            save(root / "gtFine" / f"{name}_gtFine_instanceIds.png", objects)
            save(root / "leftImg8bit" / f"{name}_leftImg8bit.png", drawn)
    return {"root": str(root), "labels": "instanceIds"}


def stacks(root: Path) -> dict[str, Any]:
    """Two stacks of three planes to train and one to test, 36x32."""
    for split, count in (("train", 2), ("test", 1)):
        for index in range(count):
            planes = np.stack([picture(36, 32, 10 * index + plane, channels=1)[:, :, 0] for plane in range(3)])
            for side, values in (("source", planes), ("target", 255 - planes)):
                file = root / split / side / f"{index}.tif"
                file.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(file, values, photometric="minisblack")
    return {"root": str(root), "neighbours": 1}


CASES: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "side_by_side": (side_by_side, ""),
    "facades": (side_by_side, ""),
    "photos": (side_by_side, ""),
    "paired_folders": (folders, ""),
    "volume_slices": (stacks, ""),
    "procedural_facades": (lambda root: {"size": 32, "pairs": 4, "test_pairs": 3}, ""),
    "relief_to_satellite": (lambda root: {"tile": 150, "stride": 450}, ""),
    "cityscapes": (cityscapes, '[source]\nrange = [0, 65535]\n[encoding]\nname = "class_and_boundary"\n'),
    "webdataset": (folders, ""),
    "webdataset_http": (folders, ""),
    "edges_from_targets": (of_folders, ""),
    "gray_from_targets": (of_folders, ""),
    "holes_from_targets": (of_folders, ""),
}
"""By name, how its data is made and which keys it has then; and what else its recipe has."""
WITHOUT_METRICS = {"unpaired_folders"}
ALIKE = {"pix2pix_archive", "maps", "edges2shoes", "edges2handbags", "night2day"}
"""The same as facades, with another archive."""


def test_every_data_set_is_compared() -> None:
    """None that a plugin or p2pkit registers is left out."""
    names = ["p2pkit", *(project["name"] for _, project in in_tree())]
    registered = {name for each in names for kind, name in registered_by(each) if kind == "datasets"}
    assert registered == CASES.keys() | WITHOUT_METRICS | ALIKE


def resized(pixels: Any, size: tuple[int, int]) -> Any:
    """Pixels [H, W, C] from 0 to 255 as another program would resize them: bicubic, antialiased, clamped; in [0, 1]."""
    tensor = torch.from_numpy(np.array(pixels, dtype=np.float32).transpose(2, 0, 1))[None] / 127.5 - 1
    tensor = F.interpolate(tensor, size, mode="bicubic", antialias=True).clamp(-1, 1)
    return ((tensor[0] + 1) / 2).numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("name", CASES)
def test_three_ways_to_one_number(name: str, tmp_path: Path, program: Call) -> None:
    """To 1e-5, for images that are resized."""
    make, sections = CASES[name]
    keys = {"name": name, **make(tmp_path / "data")}
    begin, end = SMALL.index("[data]"), SMALL.index("[loader]")
    recipe = tmp_path / "recipe.toml"

    def written(keys: dict[str, Any]) -> None:
        data = "[data]\n" + "".join(f"{key} = {value!r}\n" for key, value in keys.items())
        text = (SMALL[:begin] + data + sections + SMALL[end:]).replace("max_steps = 4", "max_steps = 2")
        recipe.write_text(text.replace("load_size = 20\ncrop_size = 16", "load_size = [16, 24]"))

    if name.startswith("webdataset"):
        written({**keys, "name": "paired_folders"})
        assert program("data", "shard", recipe, "--out", tmp_path / "shards").code == 0
        keys["root"] = str(tmp_path / "shards")
    with served(Site(folder=tmp_path / "shards")) as site:
        if name == "webdataset_http":
            keys = {"name": name, "url": site.url, "cache": str(tmp_path / "cache")}
        written(keys)
        compare(recipe, tmp_path, program)


RECIPES: dict[str, dict[str, Any]] = {
    "bicyclegan:quickstart": {
        "data.size": 32, "data.pairs": 4, "data.test_pairs": 3, "transform.load_size": 16, "transform.crop_size": 16,
        "generator.depth": 3, "generator.width": 4, "discriminator.name": "patchgan_1", "discriminator.width": 4,
        "method.encoder_width": 4,
    },
    "earth:relief_to_satellite": {
        "data.tile": 150, "data.stride": 450, "transform.load_size": 16, "transform.crop_size": 16,
        "generator.depth": 3, "generator.width": 4, "discriminator.name": "patchgan_1", "discriminator.width": 4,
    },
    "hd:small": {
        "transform.load_size": [48, 96], "generator.width": 4, "generator.blocks": 1, "discriminator.width": 4,
    },
}  # fmt: skip
"""Recipes of the plugins in their READMEs, and what makes them small."""


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_plugins_too(recipe: str, tmp_path: Path, program: Call) -> None:
    """With their methods, encodings and noise."""
    small = dict(RECIPES[recipe])
    if recipe == "hd:small":
        small["data.root"] = cityscapes(tmp_path / "data")["root"]
    compare(
        recipe, tmp_path, program, {**small, "loader.workers": 0, "train.max_steps": 2, "validation.max_images": 9999}
    )


def compare(
    recipe: Path | str, tmp_path: Path, program: Call, overrides: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Train, evaluate and translate by a recipe, and compare the three numbers."""
    run, samples = tmp_path / "run", library.load_data(recipe, overrides).validation
    settings = [part for key, value in overrides.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    outcome = program("run", recipe, *settings, "--out", run, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    inside = lines(run)[-1]["validation/mae"]
    evaluated = program("evaluate", run, "--metrics", "mae", "--json", "--device", "cpu", "--split", samples.split)
    assert evaluated.json["rows"]["model"]["mae"] == pytest.approx(inside, abs=1e-7)
    # a model that writes floats: what files of 8 bits hold is rounded
    header, weights = read_model(run / "model.safetensors")
    floats = header.model_copy(update={"target_dtype": "float32", "target_range": (0.0, 1.0), "target_ending": ".npy"})
    write_model(tmp_path / "floats.safetensors", weights, floats)
    chosen = ("--split", samples.split, "--device", "cpu")
    command = ("translate", tmp_path / "floats.safetensors", *chosen, "--format", "npy")
    outcome = program(*command, "--size", "model", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert header.resize is not None
    errors = []
    for index in range(len(samples)):
        sample = samples[index]
        place = sample.key if Path(sample.key).suffix else f"{sample.key}.npy"
        output = np.load((tmp_path / "out" / place).with_suffix(".npy"))
        assert output.shape[:2] == header.resize.size
        errors.append(np.abs(output - resized(sample.target, header.resize.size)).mean(dtype=np.float64))
    assert len(errors) >= 3 and np.mean(errors) == pytest.approx(inside, abs=1e-5)
