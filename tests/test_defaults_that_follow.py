"""What a recipe leaves out follows from the data and the crop, or the message names the key to set and its value."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import p2pkit as toolkit
from p2pkit.inference.model_file import read_header
from p2pkit.recipe.resolve import read_recipe
from tests.conftest import Call, Outcome

# the recipe of the README's "Your own images", its crop and load size left open, and narrower
README = """
[data]
name = "paired_folders"
root = "{root}"
source = "edges"
target = "photos"

[generator]
width = 2

[discriminator]
width = 2

[loader]
workers = 0
"""


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def written(folder: Path, size: tuple[int, int], target_size: tuple[int, int] | None = None, count: int = 3) -> Path:
    """A recipe like the README's, and a few pairs of these sizes, (height, width)."""
    for split in ("train", "test"):
        for side, of_side in (("edges", size), ("photos", target_size or size)):
            (folder / split / side).mkdir(parents=True)
            for index in range(count):
                image = Image.fromarray(picture(*of_side, index))
                image.save(folder / split / side / f"{index}.png")
    (folder / "shoes.toml").write_text(README.format(root=folder))
    return folder / "shoes.toml"


def settings_in(message: str) -> list[str]:
    """The settings KEY = VALUE that a message names."""
    return [
        f"{key}={value}"
        for key, value in re.findall(
            r"((?:transform|generator|discriminator)\.\w+) = (\[[^\]]*\]|\"\w+\"|\d+)", message
        )
    ]


def checked(p2pkit: Call, recipe: Path, *settings: str) -> Outcome:
    return p2pkit("check", recipe, *(part for each in settings for part in ("--set", each)))


@pytest.mark.parametrize(
    ("crop", "depth"), [(512, 8), (256, 8), (128, 7), (64, 6), (32, 5), (96, 5), (160, 5), (48, 4), (208, 4)]
)
def test_the_depth_follows_the_crop(crop: int, depth: int, tmp_path: Path, p2pkit: Call) -> None:
    recipe = written(tmp_path, (crop + 30, crop + 30), count=1)
    outcome = checked(p2pkit, recipe, f"transform.load_size={crop + 30 * crop // 256}", f"transform.crop_size={crop}")
    assert outcome.code == 0 and f"unet, depth = {depth} by the training size, " in outcome.out, outcome
    assert "depth" not in read_recipe(recipe).generator.values.model_fields_set


@pytest.mark.parametrize("crop", [50, 100, 200, 286, 300, 72])
def test_a_crop_that_no_depth_goes_with_is_refused_with_one_that_works(crop: int, tmp_path: Path, p2pkit: Call) -> None:
    recipe = written(tmp_path, (300, 300), count=1)
    sizes = ("transform.load_size=300", f"transform.crop_size={crop}")
    outcome = checked(p2pkit, recipe, *sizes)
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome.err
    remedies = settings_in(outcome.err)
    assert remedies, outcome.err
    assert checked(p2pkit, recipe, *sizes, *remedies).code == 0, outcome.err


@pytest.mark.parametrize(
    ("size", "settings", "named"),
    [
        ((128, 128), ["generator.depth=8", "transform.crop_size=128"], "Set generator.depth = 7"),
        ((100, 140), [], "transform.crop_size = [96, 128] and generator.depth = 5"),
        ((96, 96), ["generator.name=\"resnet\"", "generator.width=4", "transform.crop_size=50"], "crop_size = 48"),
        ((16, 16), ["generator.name=\"timm_unet\"", "generator.pretrained=false"], "transform.load_size = 64"),
    ],
)  # fmt: skip
def test_the_remedy_works(size: tuple[int, int], settings: list[str], named: str, tmp_path: Path, p2pkit: Call) -> None:
    recipe = written(tmp_path, size)
    if settings and "timm" in settings[0]:
        recipe.write_text(recipe.read_text().replace("[generator]\nwidth = 2\n", ""))
    refused = checked(p2pkit, recipe, *settings)
    assert refused.code == 2 and named in refused.err, refused
    mended = checked(p2pkit, recipe, *settings, *settings_in(refused.err))
    assert mended.code == 0, mended.err


def test_the_depth_is_kept_in_the_run_and_in_the_model(tmp_path: Path, p2pkit: Call) -> None:
    recipe = written(tmp_path, (64, 64))
    outcome = p2pkit("run", recipe, "--set", "train.max_steps=2", "--out", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert read_header(tmp_path / "run" / "model.safetensors").parameters["depth"] == 6
    assert read_recipe(tmp_path / "run" / "recipe.toml").generator.values.depth == 6
    assert p2pkit("run", "--resume", tmp_path / "run", "--device", "cpu").code == 0
    assert toolkit.load_model(tmp_path / "run")(picture(50, 70, 1)).shape == (50, 70, 3)


def test_images_of_a_pair_may_differ_in_size_where_load_size_makes_them_equal(tmp_path: Path, p2pkit: Call) -> None:
    recipe = written(tmp_path, (60, 40), (50, 70))
    refused = checked(p2pkit, recipe)
    assert refused.code == 2 and "source and target differ in size" in refused.err
    assert settings_in(refused.err) == ["transform.load_size=[60, 40]"]
    run = ("run", recipe, "--set", "transform.load_size=32", "--set", "train.max_steps=2", "--device", "cpu")
    outcome = p2pkit(*run, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "source and target differ in size, 60x40 and 50x70 (height x width)" in " ".join(outcome.err.split())
    data = toolkit.load_data(recipe, {"transform.load_size": 32})
    assert data.spec.scale == 1 and data.train[0].target.shape == (50, 70, 3)
    measured = p2pkit("evaluate", tmp_path / "run", "--metrics", "mae", "--json")
    assert measured.code == 0 and measured.json["rows"]["model"]["mae"] > 0
    native = p2pkit("evaluate", tmp_path / "run", "--metrics", "mae", "--at", "native")
    assert native.code == 2 and "source and target differ in size" in native.err
    assert p2pkit("translate", tmp_path / "run", tmp_path / "test" / "edges", "--out", tmp_path / "out").code == 0
    assert np.asarray(Image.open(tmp_path / "out" / "0.png")).shape == (60, 40, 3)


def test_what_is_resized_is_what_is_trained_on(tmp_path: Path) -> None:
    recipe = written(tmp_path, (64, 64), (32, 48))
    from p2pkit.build import augmentation, load_data

    resolved = read_recipe(recipe, {"transform.load_size": 32})
    data = load_data(resolved)
    tensors = augmentation(resolved, scale=data.spec.scale).train(data.spec.tensors(data.train[0]), (0, 0), "key")
    assert tensors.source.shape == tensors.target.shape == (3, 32, 32)
    shown = np.asarray(Image.fromarray(picture(32, 48, 0)).resize((32, 32), Image.Resampling.BICUBIC), float)
    assert np.abs((tensors.target.permute(1, 2, 0).numpy() + 1) * 127.5 - shown).max() < 3
