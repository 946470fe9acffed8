"""Targets of a multiple of the size through the command line: trained, resumed, measured, translated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from p2pkit.images.reading import read_image
from tests.conftest import NETWORKS, Call, lines, picture, save, train

RECIPE = (
    """
[run]
name = "enlarging"

[data]
name = "paired_folders"
root = "{root}"
source = "small"
target = "large"
mask = "weights"

[loader]
workers = 0
batch_size = 2

[transform]
crop_size = 16
flip = true

[[augmentations]]
name = "affine"

[[metrics]]
name = "mae"

[train]
max_steps = 4
checkpoint_every = 2
"""
    + NETWORKS
)


def write_pairs(root: Path, scale: int) -> None:
    """Sources of 20x24, targets that hold the same at a multiple of the size, and masks."""
    for split in ("train", "val"):
        for index in range(4 if split == "train" else 2):
            source = picture(20, 24, index + 9 * (split == "val"))
            target = source.repeat(scale, axis=0).repeat(scale, axis=1)
            weights = np.full(target.shape[:2], 255, np.uint8)
            weights[: scale * 6] = 0
            for name, image in {"small": source, "large": target, "weights": weights}.items():
                save(root / split / name / f"{index}.png", image)


@pytest.mark.parametrize("scale", [2, 3])
def test_a_run_trains_resumes_and_is_measured_at_a_multiple_of_the_size(
    scale: int, tmp_path: Path, p2pkit: Call
) -> None:
    write_pairs(tmp_path, scale)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(root=tmp_path))
    whole, begun = train(p2pkit, recipe, tmp_path / "whole"), tmp_path / "begun"
    train(p2pkit, recipe, begun, "train.max_steps=2")
    assert p2pkit("run", "--resume", begun, "--set", "train.max_steps=4").code == 0
    for name, weights in load_file(whole / "model.safetensors").items():
        assert torch.equal(weights, load_file(begun / "model.safetensors")[name]), name
    measured = p2pkit("evaluate", whole, "--split", "val", "--json").json
    assert measured["size"] == [scale * 20, scale * 24] and measured["coverage"] == pytest.approx(0.7)
    assert {"model", "source", "mean_target"} <= measured["rows"].keys()
    of_run = next(line for line in lines(whole) if "validation/mae" in line)
    assert measured["rows"]["model"]["mae"] == pytest.approx(of_run["validation/mae"], abs=1e-6)
    outcome = p2pkit("translate", whole, tmp_path / "val" / "small", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    made = read_image(tmp_path / "out" / "0.png")
    assert made.shape == (scale * 20, scale * 24, 3)
    tiled = p2pkit("translate", whole, tmp_path / "val" / "small", "--out", tmp_path / "tiles", "--tile", 16)
    assert tiled.code == 0 and read_image(tmp_path / "tiles" / "0.tif").shape == made.shape


def test_what_is_no_multiple_of_the_size_is_refused(tmp_path: Path, p2pkit: Call) -> None:
    write_pairs(tmp_path, 2)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(root=tmp_path))
    refused = p2pkit("run", recipe, "--out", tmp_path / "run", "--set", 'generator.name="bicyclegan_unet"')
    assert refused.code == 2
    save(tmp_path / "train" / "large" / "2.png", picture(60, 72, 1))
    refused = p2pkit("check", recipe)
    assert refused.code == 2 and "2.png" in refused.out + refused.err and "60x72" in refused.out + refused.err
    save(tmp_path / "train" / "large" / "2.png", picture(30, 36, 1))
    refused = p2pkit("check", recipe)
    assert refused.code == 2 and "differ in size" in refused.out + refused.err and "30x36" in refused.out + refused.err
