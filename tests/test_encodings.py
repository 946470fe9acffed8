"""Sources that networks see encoded: label maps, one channel a class."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import p2pkit as library
from p2pkit.data.augmentation import Augmentation, Tensors
from p2pkit.errors import RecipeError
from p2pkit.networks.encoding import SourcePart
from p2pkit.settings import TransformSettings
from p2pkit.training.sample_grids import GAP, TOP
from tests.conftest import Call, lines, save, train
from tests.model_files import change_header, described

CLASSES = 5
COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [240, 240, 240], [10, 10, 10]], dtype=np.uint8)


def label_map(seed: int, side: int = 24) -> np.ndarray:
    """A map of class numbers, uint8 [side, side, 1], in blocks of four pixels."""
    blocks = np.random.default_rng(seed).integers(0, CLASSES, (side // 4, side // 4), dtype=np.uint8)
    return blocks.repeat(4, axis=0).repeat(4, axis=1)[:, :, None]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A recipe that paints classes in colours."""
    root = tmp_path / "labels"
    for split, count in (("train", 8), ("test", 2)):
        for index in range(count):
            classes = label_map(index + 100 * (split == "test"))
            save(root / split / "classes" / f"{index}.png", classes)
            save(root / split / "photos" / f"{index}.png", COLOURS[classes[:, :, 0]])
    file = tmp_path / "labels.toml"
    file.write_text(f"""
[data]
name = "paired_folders"
root = "{root}"
source = "classes"
target = "photos"
[encoding]
name = "one_hot"
classes = {CLASSES}
[loader]
batch_size = 2
workers = 0
[transform]
crop_size = 16
[generator]
name = "resnet"
blocks = 1
width = 4
[discriminator]
name = "patchgan_1"
width = 4
[optimizer]
lr = 0.01
[train]
max_steps = 30
checkpoint_every = 15
[validation]
baseline = "class_mean_colour"
""")
    return file


def test_one_hot_gives_each_class_a_channel_of_its_own() -> None:
    encoding = library.create("encodings", "one_hot", classes=3, source_channels=1, source_range=(0.0, 255.0))
    source = torch.tensor([[[[0.0, 2.0], [1.0, 255.0]]]]) / 127.5 - 1
    void_is_in_none = [[[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]]
    assert encoding(source)[0].tolist() == void_is_in_none
    assert encoding.picture(source).unique(dim=2).shape[0] == 1 and encoding.picture(source).abs().max() <= 1


@pytest.mark.parametrize("highest", [255.0, 65535.0])
def test_every_number_survives_the_way_to_tensors(highest: float) -> None:
    from p2pkit.images.class_maps import stored_values
    from p2pkit.images.pixels import normalize

    numbers = np.arange(int(highest) + 1, dtype=np.uint8 if highest == 255 else np.uint16).reshape(1, -1, 1)
    assert np.array_equal(stored_values(normalize(numbers, "numbers"), (0.0, highest)).numpy()[0], numbers[:, :, 0])


def test_sources_of_several_channels_are_no_class_map() -> None:
    with pytest.raises(RecipeError, match="takes class maps of 1 channel, and the sources have 3"):
        library.create("encodings", "one_hot", classes=3, source_channels=3, source_range=(0.0, 255.0))


@pytest.mark.parametrize("clipped", ["source.range=[0, 3]", "source.range=[1, 255]", "source.percentiles=[0, 50]"])
def test_numbers_of_classes_are_not_clipped_to_others(clipped: str, labels: Path, p2pkit: Call) -> None:
    outcome = p2pkit("check", labels, "--set", clipped)
    assert outcome.code == 2 and "classes are numbers from 0 to 4, but the sources' values are clipped" in outcome.err


def test_sources_are_resized_to_the_nearest_pixel_and_targets_are_not() -> None:
    transform = Augmentation(TransformSettings(load_size=37), 0, [SourcePart("", 1, "nearest")])
    image = torch.from_numpy(label_map(0)).permute(2, 0, 1) / 2.0 - 1
    source, target, _ = transform.test(Tensors(image, image))
    assert set(source.unique().tolist()) <= set(image.unique().tolist())
    assert not set(target.unique().tolist()) <= set(image.unique().tolist())


def test_a_recipe_with_an_encoding_trains_resumes_and_translates_label_maps(
    labels: Path, tmp_path: Path, p2pkit: Call
) -> None:
    whole = train(p2pkit, labels, tmp_path / "whole")
    metrics = {line["split"]: line for line in lines(whole)}
    # each class has one colour, so painting it is perfect; grays of neighbouring numbers would be mixed up
    assert metrics["validation"]["class_mean_colour/mae"] < 0.02
    half = train(p2pkit, labels, tmp_path / "half", "train.max_steps=15")
    assert p2pkit("run", "--resume", half, "--set", "train.max_steps=30").code == 0
    assert (half / "checkpoints/step_00000030/networks.safetensors").read_bytes() == (
        whole / "checkpoints/step_00000030/networks.safetensors"
    ).read_bytes()
    source = save(tmp_path / "new.png", label_map(7, 20))
    outcome = p2pkit("translate", whole, source, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert np.asarray(Image.open(tmp_path / "out" / "new.png")).shape == (20, 20, 3)
    assert json.loads(p2pkit("inspect", whole, "--json").out)["encoding"]["parameters"] == {"classes": CLASSES}
    grid = np.asarray(Image.open(whole / "samples/step_00000030.png"))
    source = grid[TOP : TOP + 128, GAP : GAP + 128]
    assert len(np.unique(source.reshape(-1, 3), axis=0)) >= CLASSES  # a colour a class


def test_numbers_mean_the_same_in_files_of_8_and_16_bits(labels: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, labels, tmp_path / "run", "train.max_steps=2")
    numbers = label_map(7, 20)
    for folder, pixels in (("8", numbers), ("16", numbers.astype(np.uint16))):
        source = save(tmp_path / folder / "map.png", pixels)
        assert p2pkit("translate", run, source, "--out", tmp_path / folder / "out").code == 0
    assert (tmp_path / "8/out/map.png").read_bytes() == (tmp_path / "16/out/map.png").read_bytes()
    wide = tmp_path / "labels" / "train" / "classes" / "3.png"
    save(wide, np.asarray(Image.open(wide)).astype(np.uint16))
    mixed = train(p2pkit, labels, tmp_path / "mixed", "train.max_steps=2")
    weights = (folder / "checkpoints/step_00000002/networks.safetensors" for folder in (run, mixed))
    assert next(weights).read_bytes() == next(weights).read_bytes()


def test_the_networks_see_the_encodings_channels(labels: Path, p2pkit: Call) -> None:
    few, many = (p2pkit("check", labels, "--set", f"encoding.classes={classes}").out for classes in (5, 105))
    assert "1 channel of uint8" in few and "1x16x16 -> 3x16x16" in few
    fewer, more = (float(re.findall(r"generator.* ([\d.]+) M parameters", out)[0]) for out in (few, many))
    assert more - fewer == pytest.approx(100 * 4 * 7 * 7 / 1e6, abs=1e-3)  # the first convolution: width 4, 7x7


def test_an_encoding_is_checked_like_any_component(labels: Path, p2pkit: Call) -> None:
    outcome = p2pkit("check", labels, "--set", "encoding.classes=0", "--set", "encoding.clases=1")
    assert outcome.code == 2
    assert "encoding.classes" in outcome.err and "did you mean 'classes'" in outcome.err
    assert "one_hot" in p2pkit("check", labels, "--set", "encoding.name=one_hott").err


def test_a_model_without_its_encoding_says_whose_it_is(labels: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, labels, tmp_path / "run", "train.max_steps=1")
    file = run / "model.safetensors"
    change_header(file, encoding={**described(file)["header"]["encoding"], "name": "one_cat"})
    outcome = p2pkit("translate", run, tmp_path / "labels", "--out", tmp_path / "out")
    assert outcome.code == 2 and "its encoding 'one_cat' comes from p2pkit" in outcome.err


def test_an_encoded_generator_exports(labels: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, labels, tmp_path / "run", "train.max_steps=1")
    outcome = p2pkit("export", run, "--format", "torch_program", "--out", tmp_path / "model.pt2")
    assert outcome.code == 0, outcome.err
