"""What was done to sources in training is done by translate: its numbers are those of validation and of evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image

import p2pkit as library
from p2pkit.data.augmentation import Augmentation, Tensors
from p2pkit.errors import DataError
from p2pkit.inference.files import FileOptions
from p2pkit.settings import TransformSettings
from tests.conftest import SMALL, Call, lines, picture, save, train

SIZES = [(48, 48), (48, 48), (40, 64)]
"""Height and width of the test images; training images are of the first."""
FOLDERS = '[data]\nname = "paired_folders"\nroot = "{root}"\n\n'


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Pairs of a PNG and an array of floats of the same size; those to test of several sizes."""
    root = tmp_path / "data"
    for split, sizes in (("train", 4 * SIZES[:1]), ("test", SIZES)):
        for index, size in enumerate(sizes):
            source = picture(*size, seed=index + 100 * (split == "test"))
            save(root / split / "source" / f"{index}.png", source)
            (root / split / "target").mkdir(exist_ok=True)
            tifffile.imwrite(
                root / split / "target" / f"{index}.tif", 1 - source.astype(np.float32) / 255, photometric="rgb"
            )
    return root


def trained(p2pkit: Call, tmp_path: Path, root: Path, transform: str, sections: str = "") -> Path:
    """The run of a recipe on these folders."""
    recipe, begin, end = tmp_path / "recipe.toml", SMALL.index("[data]"), SMALL.index("[loader]")
    text = SMALL[:begin] + FOLDERS.format(root=root) + sections + SMALL[end:]
    text = text.replace('name = "small"', 'name = "small"\nseed = 3').replace("max_steps = 4", "max_steps = 2")
    recipe.write_text(text.replace("load_size = 20\ncrop_size = 16", transform))
    return train(p2pkit, recipe, tmp_path / "run")


def resized(values: Any, size: tuple[int, int]) -> Any:
    """Values [H, W, C] in [0, 1] as another program would resize them: bicubic, antialiased, clamped."""
    if values.shape[:2] == size:
        return values
    tensor = torch.from_numpy(values.transpose(2, 0, 1).copy())[None] * 2 - 1
    tensor = F.interpolate(tensor, size, mode="bicubic", antialias=True).clamp(-1, 1)
    return ((tensor[0] + 1) / 2).numpy().transpose(1, 2, 0)


RESIZED, BACK = "outputs stay at that size (--size)", "outputs back to each source's size (--size)"
TRANSFORMS = {
    "crop_size = 16\nload_size = 16": [(16, 16)] * 3,
    "crop_size = 16\nload_size = 20": [(16, 16)] * 3,
    "load_size = [16, 24]": [(16, 24)] * 3,
    "crop_size = 16\nload_size = [24, 32]": [(24, 32)] * 3,
    "crop_size = 16\nload_size = 32": [(32, 32)] * 3,
    "crop_size = 16\nload_size = 24\nkeep_aspect = true": [(24, 24), (24, 24), (24, 38)],
    "crop_size = 16": SIZES,
}


@pytest.mark.parametrize(
    ("transform", "sizes"), list(TRANSFORMS.items()), ids=[key.replace("\n", " ") for key in TRANSFORMS]
)
def test_validation_evaluate_and_the_files_of_translate_agree(
    transform: str, sizes: list[tuple[int, int]], folders: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = trained(p2pkit, tmp_path, folders, transform)
    last = lines(run)[-1]["validation/mae"]
    evaluated = p2pkit("evaluate", run, "--metrics", "mae", "--json", "--device", "cpu").json
    assert [tuple(image["size"]) for image in evaluated["per_image"]] == sizes
    assert evaluated["rows"]["model"]["mae"] == pytest.approx(last, abs=1e-7)
    out, errors = tmp_path / "out", []
    command = ("translate", run, folders / "test" / "source", "--device", "cpu")
    outcome = p2pkit(*command, "--out", out, "--size", "model")
    assert outcome.code == 0, outcome.err
    assert (RESIZED in outcome.err) == ("load_size" in transform)
    for index, size in enumerate(sizes):
        found = tifffile.imread(out / f"{index}.tif")
        assert found.shape[:2] == size and found.dtype == np.float32
        target = resized(tifffile.imread(folders / "test" / "target" / f"{index}.tif"), size)
        errors.append(np.abs(found - target).mean(dtype=np.float64))
    assert np.mean(errors) == pytest.approx(last, abs=1e-5)
    # by default the same, but back at the size of each source
    outcome = p2pkit(*command, "--out", tmp_path / "back")
    assert outcome.code == 0 and ("outputs back to each source's size (--size)" in outcome.err) == (
        "load_size" in transform
    )
    for index, size in enumerate(SIZES):
        back = tifffile.imread(tmp_path / "back" / f"{index}.tif")
        assert back.shape[:2] == size
        assert np.abs(back - resized(tifffile.imread(out / f"{index}.tif"), size)).max() < 1e-5


def test_a_model_of_resized_images_errs_no_more_by_default_than_on_images_resized_by_hand(
    folders: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = trained(p2pkit, tmp_path, folders, "load_size = 16\ncrop_size = 16")
    translate, source = library.load_model(run, "cpu"), picture(48, 48, 100)
    tensor = torch.from_numpy(source.transpose(2, 0, 1).copy()).float() / 127.5 - 1
    small = F.interpolate(tensor[None], (16, 16), mode="bicubic", antialias=True).clamp(-1, 1)
    output = translate(small)
    expected = F.interpolate(output, (48, 48), mode="bicubic", antialias=True).clamp(-1, 1)
    by_hand = (expected[0].numpy().transpose(1, 2, 0) + 1) / 2
    file = folders / "test" / "source" / "0.png"
    assert np.abs(translate(source) - by_hand).max() < 1e-5
    assert np.abs(translate(source, size="model") - (output[0].numpy().transpose(1, 2, 0) + 1) / 2).max() < 1e-5
    native = translate(tensor)  # tensors are taken as they are
    assert np.abs(translate(source, size="native") - (native.numpy().transpose(1, 2, 0) + 1) / 2).max() < 1e-5
    assert np.abs(translate(source) - translate(source, size="native")).mean() > 1e-3
    with pytest.raises(DataError, match="a tensor is taken as it is"):
        translate(tensor, size="model")
    assert "resized to 16x16 (height x width)" in repr(translate)
    report = translate.files([file], tmp_path / "o", FileOptions(size="native"))
    assert report.done == 1 and tifffile.imread(tmp_path / "o" / "0.tif").shape[:2] == (48, 48)


def test_class_maps_are_resized_to_the_nearest_pixel(folders: Path, tmp_path: Path, p2pkit: Call) -> None:
    for split in ("train", "test"):
        for file in (folders / split / "source").iterdir():
            save(file, (picture(*Image.open(file).size[::-1], seed=int(file.stem))[:, :, :1] // 64))
    encoding = '[encoding]\nname = "one_hot"\nclasses = 4\n\n'
    run = trained(p2pkit, tmp_path, folders, "load_size = 16\ncrop_size = 16", encoding)
    last, errors = lines(run)[-1]["validation/mae"], []
    outcome = p2pkit("translate", run, folders / "test" / "source", "--out", tmp_path / "o", "--size", "model")
    assert outcome.code == 0, outcome.err
    for index in range(3):
        target = resized(tifffile.imread(folders / "test" / "target" / f"{index}.tif"), (16, 16))
        errors.append(np.abs(tifffile.imread(tmp_path / "o" / f"{index}.tif") - target).mean(dtype=np.float64))
    assert np.mean(errors) == pytest.approx(last, abs=1e-5)


def test_the_model_file_says_how_sources_are_resized(folders: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = trained(p2pkit, tmp_path, folders, "load_size = 20\nkeep_aspect = true\ncrop_size = 16")
    found = p2pkit("inspect", run, "--json").json
    assert found["resize"] == {"size": [20, 20], "keep_aspect": True} and found["size"] == [16, 16]
    assert found["source_size"] == [48, 48] and found["stored_as"] == ""
    shown = p2pkit("inspect", run).out
    assert "resize: size = [20, 20], keep_aspect = true" in shown
    assert "stored as: whole images, not halves of files" in shown
    outcome = p2pkit("translate", run, folders / "test" / "source", "--out", tmp_path / "o")
    assert "sources are resized to cover 20x20 (height x width) in their aspect, as in training" in outcome.err


def test_tiles_are_of_images_at_their_own_size(folders: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = trained(p2pkit, tmp_path, folders, "load_size = 16\ncrop_size = 16")
    command = ("translate", run, folders / "test" / "source" / "0.png", "--tile", 32, "--out", tmp_path / "o")
    outcome = p2pkit(*command)
    assert outcome.code == 0 and "NOTICE: tiles are of images at their own size, while training saw them" in outcome.err
    tiled = tifffile.imread(tmp_path / "o" / "0.tif")
    assert tiled.shape[:2] == (48, 48)
    quiet = p2pkit(*command[:-1], tmp_path / "native", "--size", "native")
    assert quiet.code == 0 and "NOTICE" not in quiet.err
    assert np.array_equal(tifffile.imread(tmp_path / "native" / "0.tif"), tiled)
    for size in ("source", "model"):
        refused = p2pkit(*command, "--size", size)
        assert refused.code == 2 and f'size "{size}" with tiles' in refused.err and "Traceback" not in refused.err


def test_what_describes_a_file_goes_along_only_at_its_own_size(folders: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = trained(p2pkit, tmp_path, folders, "load_size = 16\ncrop_size = 16")
    scale = (33550, 12, 3, (0.25, 0.25, 0.0), True)
    tifffile.imwrite(tmp_path / "a.tif", picture(48, 48, 1), extratags=[scale], metadata=None)
    for size, there in (("source", True), ("native", True), ("model", False)):
        assert p2pkit("translate", run, tmp_path / "a.tif", "--out", tmp_path / size, "--size", size).code == 0
        with tifffile.TiffFile(tmp_path / size / "a.tif") as file:
            assert (33550 in file.pages[0].tags) == there


@pytest.mark.parametrize(
    ("settings", "test"),
    [
        ({"load_size": 286, "crop_size": 256}, (256, 256)),
        ({"load_size": (286, 572), "crop_size": (256, 512)}, (256, 512)),
        ({"load_size": 256, "crop_size": 192}, (192, 192)),
        ({"load_size": 256, "crop_size": 190}, (256, 256)),
        ({"load_size": (256, 512), "crop_size": 256}, (256, 512)),
        ({"load_size": (256, 512), "crop_size": (224, 384)}, (256, 512)),
        ({"load_size": 64, "keep_aspect": True, "crop_size": 60}, (64, 128)),
        ({"crop_size": 60}, (100, 200)),
        ({}, (100, 200)),
    ],
    ids=str,
)
def test_images_to_test_are_seen_at_the_scale_and_aspect_of_training(
    settings: dict[str, Any], test: tuple[int, int]
) -> None:
    augmentation, image = Augmentation(TransformSettings(**settings), 0), torch.zeros(1, 100, 200)
    assert augmentation.sizes((100, 200)).test == test
    source, target, _ = augmentation.test(Tensors(image, image))
    assert source.shape[1:] == target.shape[1:] == test


def test_exports_say_the_size_that_their_images_are_to_have(folders: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = trained(p2pkit, tmp_path, folders, "load_size = 16\ncrop_size = 16")
    outcome = p2pkit("export", run, "--format", "torch_program", "--out", tmp_path / "model.pt2")
    assert outcome.code == 0 and "resize images to 16x16 (height x width) first" in outcome.err
    about = {"p2pkit": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=about)
    assert json.loads(about["p2pkit"])["resize"] == {"size": [16, 16], "keep_aspect": False}
