"""Gray photos to colours: L of Lab in, a and b out, and pictures of both wherever one looks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image
from skimage.color import lab2rgb, rgb2lab

import p2pkit as library
from p2pkit.build import load_data
from p2pkit.cli import main
from p2pkit.errors import DataError, ModelFileError
from p2pkit.images.channels import Taking
from p2pkit.images.lab import Colours
from p2pkit.images.pixels import denormalize, normalize, stored
from p2pkit.inference.model_file import read_model, write_model
from p2pkit.networks.fitting import resize
from p2pkit.recipe.resolve import read_recipe
from p2pkit.settings import LAB_AB, LAB_L, LAB_RANGES
from p2pkit.sweeps.pictures import write_page
from tests.conftest import REPOSITORY, Call, forget_accelerator, lines, picture, save, train

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
SIDE = 32
SMALL = """
extends = "p2pkit:colorization"
generator = {{ name = "unet", depth = 4, width = 4 }}
discriminator = {{ name = "patchgan_16", width = 4 }}

[data]
name = "photos"
root = "{root}"

[loader]
batch_size = 4
workers = 0

[transform]
load_size = {side}
crop_size = {side}

[train]
max_steps = 2
"""


def photo(name: str) -> Any:
    pixels: Any = getattr(skimage.data, name)()
    return pixels


def small(folder: Path, root: Path) -> Path:
    file = folder / "colours.toml"
    file.write_text(SMALL.format(root=root, side=SIDE))
    return file


def write_photos(root: Path) -> Path:
    for split, count in (("train", 4), ("test", 2)):
        for index in range(count):
            save(root / split / f"{index}.png", picture(SIDE, SIDE, index + 10 * (split == "test")))
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on such photos, which lie beside it, whose weights are so large that its colours show."""
    folder = tmp_path_factory.mktemp("colours")
    run, file = folder / "run", small(folder, write_photos(folder / "photos"))
    forget_accelerator()
    with pytest.raises(SystemExit) as ended:
        main(["run", str(file), "--out", str(run), "--set", "validation.baseline=source"])
    assert ended.value.code in (0, None)
    header, weights = read_model(run / "model.safetensors")
    write_model(run / "model.safetensors", {name: 6 * value for name, value in weights.items()}, header)
    return run


def as_picture(lightness: Any, ab: Any) -> Any:
    """What scikit-image makes of L [1, H, W] and ab [2, H, W] in [-1, 1], uint8 [H, W, 3]."""
    lab = np.concatenate([(np.asarray(lightness) + 1) * 50, np.asarray(ab).clip(-1, 1) * 110]).astype(np.float64)
    return np.rint(lab2rgb(lab.transpose(1, 2, 0)) * 255).astype(int)


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_go_to_lab_and_back_within_a_level(name: str) -> None:
    pixels = photo(name)
    lightness, ab = (
        normalize(Taking(taken).of(pixels, name), name, LAB_RANGES[taken])[None] for taken in (LAB_L, LAB_AB)
    )
    assert lightness.shape[1:] == (1, *pixels.shape[:2]) and ab.shape[1] == 2
    expected = rgb2lab(pixels)
    assert np.abs((lightness[0, 0].numpy() + 1) * 50 - expected[..., 0]).max() < 0.01
    assert np.abs(ab[0].permute(1, 2, 0).numpy() * 110 - expected[..., 1:]).max() < 0.01
    back = denormalize(Colours(0, *LAB_RANGES.values()).picture(lightness, ab)[0], np.dtype(np.uint8))
    assert np.abs(back.astype(int) - pixels).max() <= 1
    again = Taking(LAB_AB).of(back, name)
    assert np.abs(again - Taking(LAB_AB).of(pixels, name)).max() < 3  # a level of a dark blue is that much


def test_lab_is_of_all_types_and_of_gray_photos() -> None:
    pixels = picture(20, 24, 1)
    expected = Taking(LAB_L).of(pixels, "it")
    deep, floats = pixels.astype(np.uint16) * 257, pixels / np.float32(255)
    for same in (deep, floats, np.dstack([pixels, np.zeros((20, 24), np.uint8)])):
        assert np.allclose(Taking(LAB_L).of(same, "it"), expected, atol=1e-3)
    gray = pixels[:, :, :1]
    assert np.allclose(Taking(LAB_L).of(gray, "it"), rgb2lab(np.repeat(gray, 3, 2))[..., :1], atol=1e-3)
    assert np.abs(Taking(LAB_AB).of(np.repeat(gray, 3, 2), "it")).max() < 0.01
    with pytest.raises(DataError, match=r'it: it is gray, and channels = "lab_ab" takes colours; leave such files out'):
        Taking(LAB_AB).of(gray, "it")
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]; found 0.0 to 255.0"):
        Taking(LAB_L).of(pixels.astype(np.float32) * (pixels > 0), "it")


def test_what_files_say_of_their_pixels_is_kept() -> None:
    described = stored(picture(20, 24, 1).copy(), nodata=0, profile="Adobe RGB")
    described[3, 4] = 0
    lightness = Taking(LAB_L).of(described, "it")
    assert lightness.profile == "Adobe RGB" and np.argwhere(np.isnan(lightness)).tolist()[-1] == [3, 4, 0]
    with pytest.raises(DataError, match="mean that nothing is there"):
        normalize(lightness, "it", LAB_RANGES[LAB_L])


def test_losses_see_colours_and_metrics_pictures(run: Path, p2pkit: Call, tmp_path: Path) -> None:
    photos = run.parent / "photos"
    data = load_data(read_recipe(run / "recipe.toml"))
    assert data.channels == {"source_channels": 1, "target_channels": 2}
    assert [data.value_range(side) for side in ("source", "target")] == [(0, 100), (-110, 110)]
    rows = json.loads(p2pkit("evaluate", run, "--json").out)["rows"]
    outcome = p2pkit("translate", run, photos / "test", "--out", tmp_path / "out", "--size", "model")
    assert outcome.code == 0, outcome.err
    errors = {"model": [], "source": []}
    for file in sorted((photos / "test").iterdir()):
        pixels = np.asarray(Image.open(file))
        gray = as_picture(rgb2lab(pixels)[None, :, :, 0] / 50 - 1, np.zeros((2, SIDE, SIDE)))
        for row, made in (("model", np.asarray(Image.open(tmp_path / "out" / file.name))), ("source", gray)):
            errors[row].append(np.abs(made.astype(int) - pixels).mean() / 255)
    assert rows["model"]["mae"] == pytest.approx(np.mean(errors["model"]), abs=0.5 / 255)
    assert rows["source"]["mae"] == pytest.approx(np.mean(errors["source"]), abs=0.5 / 255)
    assert rows["source"]["lab_L"] > 0.95 > rows["source"]["lab_a"]
    assert any("validation/lab_b" in line for line in lines(run))


@pytest.mark.parametrize("of", ["run", "sweep"])
def test_sample_grids_show_pictures(run: Path, tmp_path: Path, of: str) -> None:
    file = tmp_path / "page.png"
    if of == "sweep":
        write_page(file, "a sweep", [("row", run)], "test", "cpu")
    else:
        file = sorted((run / "samples").iterdir())[-1]
    grid = np.asarray(Image.open(file)).astype(int)
    shown = np.asarray(Image.open(run.parent / "photos" / "test" / "0.png")).astype(int)
    places = [column for column in range(grid.shape[1]) if (grid[60:70, column] != 255).any()]
    target = max(places) + 1 - 4 * SIDE  # images of 32 pixels are shown at 128
    assert np.abs(grid[44 : 44 + 4 * SIDE : 4, target : target + 4 * SIDE : 4] - shown).max() <= 1


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")  # of colours that sRGB does not have
@pytest.mark.parametrize("size", ["source", "model", "native"])
def test_translations_have_the_lightness_of_the_source_at_its_size(run: Path, tmp_path: Path, size: Any) -> None:
    pixels = picture(70, 52, 3)
    translate = library.load_model(run, "cpu")
    made = translate(pixels, size=size)
    source = translate.to_tensor(pixels, "it")
    trained = source if size == "native" else resize(source, (SIDE, SIDE))
    ab = translate(trained, size="native" if size == "native" else None)
    assert tuple(ab.shape) == (2, *trained.shape[1:])
    shown = trained if size == "model" else source
    assert made.dtype == np.uint8 and made.shape == (*shown.shape[1:], 3)
    assert np.abs(made.astype(int) - as_picture(shown, resize(ab, tuple(shown.shape[1:])))).max() <= 1
    assert made.std(axis=2).mean() > 5  # there are colours


def test_gray_and_deep_files_are_translated_and_several_samples_differ(run: Path, tmp_path: Path, p2pkit: Call) -> None:
    pixels = picture(40, 50, 3)
    folder = tmp_path / "in"
    save(folder / "gray.png", pixels[:, :, :1])
    save(folder / "three.png", np.repeat(pixels[:, :, :1], 3, axis=2))
    tifffile.imwrite(folder / "deep.tif", pixels.astype(np.uint16) * 257, photometric="rgb")
    save(folder / "colour.jpg", pixels)
    outcome = p2pkit("translate", run, folder, "--out", tmp_path / "out", "--samples", "2")
    assert outcome.code == 0 and "1 of the sources are of uint16, and translations of 8 bits" in outcome.err
    made = {file.stem: np.asarray(Image.open(file)) for file in (tmp_path / "out").glob("*.png")}
    assert len(made) == 8 and all(image.shape == (40, 50, 3) for image in made.values())
    assert np.array_equal(made["gray_0"], made["three_0"])
    assert np.abs(library.load_model(run, "cpu")(pixels).astype(int) - made["deep_0"]).mean() < 0.1
    assert (made["gray_0"] != made["gray_1"]).any()


def test_samples_of_a_data_set_are_translated_and_measured_as_their_files(
    run: Path, tmp_path: Path, p2pkit: Call
) -> None:
    for index in range(2):
        pixels = picture(SIDE, SIDE, index)
        save(tmp_path / "other" / "gray" / f"{index}.png", np.asarray(Image.fromarray(pixels).convert("L")))
        save(tmp_path / "other" / "photo" / f"{index}.png", pixels)
    other = tmp_path / "other.toml"
    other.write_text(f'[data]\nname = "paired_folders"\nroot = "{tmp_path}/other"\nsource = "gray"\ntarget = "photo"\n')
    for options in ((tmp_path / "other" / "gray",), ("--data", other, "--split", "train")):
        outcome = p2pkit("translate", run, *options, "--out", tmp_path / f"out{len(options)}")
        assert outcome.code == 0 and "NOTICE" not in outcome.err, outcome.err
    for index in range(2):
        places = (tmp_path / "out1" / f"{index}.png", tmp_path / "out4" / "gray" / f"{index}.png")
        one, same = (np.asarray(Image.open(place)) for place in places)
        assert np.array_equal(one, same) and one.std(axis=2).mean() > 5
    outcome = p2pkit("evaluate", run, "--data", other, "--split", "train", "--json")
    assert outcome.code == 0 and outcome.json["rows"]["source"]["lab_L"] > 0.9


def test_tiles_are_coloured_as_the_whole(run: Path, tmp_path: Path) -> None:
    translate = library.load_model(run, "cpu", norm="running", dropout=False)
    pixels = picture(96, 112, 5)
    whole, one, tiled = translate(pixels, size="native"), translate(pixels, tile=112), translate(pixels, tile=64)
    assert tiled.shape == one.shape == whole.shape == (96, 112, 3) and tiled.dtype == np.uint8
    assert np.abs(whole.astype(int) - one).max() <= 1
    lightness = [rgb2lab(image)[..., 0] for image in (whole, tiled)]
    assert np.abs(np.subtract(*lightness)).mean() < 1.5 < np.abs(lightness[0] - lightness[0][::-1]).mean()


def test_exports_say_that_they_give_colours(run: Path, tmp_path: Path, p2pkit: Call) -> None:
    outcome = p2pkit("export", run, "--format", "torch_program", "--out", tmp_path / "colours.pt2")
    assert outcome.code == 0 and "output: a and b of CIELAB, -110 to 110; not inside: putting them" in outcome.err
    program = torch.export.load(tmp_path / "colours.pt2").module()
    source = torch.rand(1, 1, 40, 48) * 2 - 1
    with torch.no_grad():
        assert program(source).shape == (1, 2, 40, 48)
    assert "with the lightness of the source" in " ".join(p2pkit("inspect", run).out.split())


def test_a_model_file_whose_sides_do_not_go_together_is_refused(run: Path, tmp_path: Path) -> None:
    header, weights = read_model(run / "model.safetensors")
    rgb = header.source_reading.model_copy(update={"channels": None})
    for change in ({"source_reading": rgb}, {"target_dtype": "float32"}, {"scale": 2}, {"target_channels": 3}):
        write_model(tmp_path / "model.safetensors", weights, header.model_copy(update=change))
        with pytest.raises(ModelFileError, match=r'"lab_ab" is of outputs in uint8|"lab_ab" of 3 channels'):
            read_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('source={channels = "gray"}', 'target.channels: targets are "lab_ab", and no source is "lab_L"'),
        ("source.range=[0, 50]", 'no range, percentiles or mapping beside channels = "lab_L"'),
        ("target.nodata=0", 'no nodata, and no palette = "indices", beside channels = "lab_ab"'),
        ('target.channels="lab"', '"lab_L", "lab_ab", or "first N"'),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(
    setting: str, message: str, photos: Path, tmp_path: Path, p2pkit: Call
) -> None:
    outcome = p2pkit("check", small(tmp_path, photos), "--set", setting)
    assert outcome.code == 2 and message in outcome.err + outcome.out


def test_colours_of_more_pixels_than_their_lightness_are_refused(tmp_path: Path, p2pkit: Call) -> None:
    for index in range(2):
        save(tmp_path / "pairs" / "source" / f"{index}.png", picture(16, 16, index))
        save(tmp_path / "pairs" / "target" / f"{index}.png", picture(32, 32, index))
    file = small(tmp_path, tmp_path / "pairs")
    file.write_text(file.read_text().replace('"photos"', '"paired_folders"').replace("_size = 32", "_size = 16"))
    outcome = p2pkit("check", file, "--set", "transform={crop_size = 16}", "--set", "generator={name='resnet'}")
    assert outcome.code == 2 and "targets are 2 times as high and wide as sources" in outcome.err + outcome.out


def test_gray_photos_are_skipped_where_the_recipe_says_so(photos: Path, tmp_path: Path, p2pkit: Call) -> None:
    save(photos / "train" / "gray.png", picture(SIDE, SIDE, 9)[:, :, :1])
    file = small(tmp_path, photos)
    outcome = p2pkit("run", file, "--out", tmp_path / "stopped")
    assert outcome.code == 2 and "gray.png, its target: it is gray" in outcome.err
    outcome = p2pkit("run", file, "--out", tmp_path / "run", "--set", 'loader.bad_data="skip"')
    assert outcome.code == 0, outcome.err


def test_one_of_several_sources_is_the_lightness(tmp_path: Path, p2pkit: Call) -> None:
    for split in ("train", "test"):
        for index in range(2):
            pixels = picture(SIDE, SIDE, index)
            hint = np.asarray(Image.fromarray(pixels).resize((2, 2)).resize((SIDE, SIDE)))
            for side, image in (("hint", hint), ("photo", pixels), ("colours", pixels)):
                save(tmp_path / "pairs" / split / side / f"{index}.png", image)
    file = small(tmp_path, tmp_path / "pairs")
    text = file.read_text().replace('"photos"', '"paired_folders"\nsource = ["hint", "photo"]\ntarget = "colours"')
    file.write_text(text + '\n[source.hint]\nchannels = "lab_ab"\n\n[source.photo]\nchannels = "lab_L"\n')
    run = train(p2pkit, file, tmp_path / "run", "loader.batch_size=2")
    translate = library.load_model(run, "cpu")
    hint, pixels = (np.asarray(Image.open(tmp_path / "pairs" / "test" / side / "1.png")) for side in ("hint", "photo"))
    made = translate({"hint": hint, "photo": pixels})
    lightness = [rgb2lab(image)[..., 0] for image in (made, pixels)]
    assert np.abs(np.subtract(*lightness)).mean() < 1


def test_the_recipe_of_the_page_is_the_one_that_ships(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs" / "colorization.md").read_text(), re.DOTALL)
    (tmp_path / "page.toml").write_text(recipe)
    shipped = read_recipe("p2pkit:colorization")
    page = read_recipe(tmp_path / "page.toml", {"data.obtain": shipped.data.values.obtain})
    for section in ("data", "source", "target"):
        assert getattr(page, section) == getattr(shipped, section)
    assert page.loader.batch_size == shipped.loader.batch_size == 4
    assert page.transform.load_size == shipped.transform.load_size == shipped.transform.crop_size
    assert page.transform.flip and shipped.transform.flip
