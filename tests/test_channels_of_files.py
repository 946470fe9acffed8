"""Which channels of files are taken, alpha and palettes: in training, in the model file and at translation alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.data.augmentation import refuse_unlike
from p2pkit.data.samples import Samples
from p2pkit.errors import DataError
from p2pkit.images.channels import Taking
from p2pkit.images.pixels import stored
from p2pkit.images.reading import image_header, read_image
from p2pkit.images.writing import write_image
from tests.conftest import NETWORKS, Call, picture, save, train

RECIPE = (
    """
[run]
name = "channels"

[data]
name = "paired_folders"
root = "{root}"

[loader]
workers = 0

[train]
max_steps = 2
"""
    + NETWORKS
)
GRAY = np.array([0.299, 0.587, 0.114])


def colours(channels: int, dtype: Any = np.uint8) -> Any:
    """Pixels [16, 24, channels] of all values that a type has."""
    high = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    values = np.random.default_rng(channels).random((16, 24, channels)) * high
    return values.astype(dtype)


def test_what_is_not_taken_does_not_mean_that_nothing_is_there() -> None:
    rgba = np.dstack([np.full((2, 2, 3), 7, np.uint8), np.array([[255, 255], [255, 0]], np.uint8)])
    for nodata in (0, 255):
        for taking in (Taking("rgb", nodata=nodata), Taking(alpha="drop", nodata=nodata)):
            assert np.array_equal(taking.of(rgba, "it"), rgba[..., :3])
        assert np.array_equal(Taking("first 2", nodata=nodata).of(rgba, "it"), rgba[..., :2])
    assert (Taking("rgb", nodata=7).of(rgba, "it") == 7).all()


def test_the_first_channels_are_taken_as_they_are(p2pkit: Call, recipe: Path) -> None:
    for alpha in ("drop", "white"):
        outcome = p2pkit("show", recipe, "--set", f'source={{channels = "first 4", alpha = "{alpha}"}}')
        assert outcome.code == 2 and 'no alpha beside channels = "first 4"' in outcome.err, outcome.err


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_taken_of_every_number_of_channels(dtype: Any) -> None:
    gray, with_alpha, rgb, rgba, many = (colours(count, dtype) for count in (1, 2, 3, 4, 6))
    for given, expected in ((gray, gray), (with_alpha, with_alpha[..., :1])):
        assert np.array_equal(Taking("rgb").of(given, "it"), expected.repeat(3, axis=2))
        assert np.array_equal(Taking("gray").of(given, "it"), expected)
    for given in (rgb, rgba):
        assert np.array_equal(Taking("rgb").of(given, "it"), given[..., :3])
        luma = given[..., :3].astype(np.float64) @ GRAY
        taken = Taking("gray").of(given, "it")
        assert taken.dtype == dtype and taken.shape == (16, 24, 1)
        assert np.abs(taken[..., 0] - luma).max() <= (0.5 if np.dtype(dtype).kind == "u" else 1e-6)
    for count in range(1, 7):
        assert np.array_equal(Taking(f"first {count}").of(many, "it"), many[..., :count])
    assert np.array_equal(Taking(alpha="drop").of(rgba, "it"), rgba[..., :3])
    assert np.array_equal(Taking(alpha="drop").of(with_alpha, "it"), with_alpha[..., :1])
    assert np.array_equal(Taking(alpha="drop").of(rgb, "it"), rgb)
    for given, taking in ((many, Taking("rgb")), (many, Taking("gray")), (rgb, Taking("first 4"))):
        with pytest.raises(DataError, match=r"it: it has [36] channels, and channels = "):
            taking.of(given, "it")


@pytest.mark.parametrize("colour", ["white", "black", "#336699"])
def test_alpha_is_composed_on_a_colour(colour: str) -> None:
    rgba = colours(4)
    image = Image.fromarray(rgba, "RGBA")
    behind = Image.new("RGBA", image.size, colour)
    expected = np.asarray(Image.alpha_composite(behind, image))[..., :3].astype(int)
    for taking in (Taking(alpha=colour), Taking("rgb", colour)):
        assert np.abs(taking.of(rgba, "it").astype(int) - expected).max() <= 1  # Pillow rounds twice
    gray = Taking("gray", colour).of(rgba, "it")[..., 0]
    assert np.abs(gray - expected @ GRAY).max() <= 1.5
    clear = np.zeros((16, 24, 4), np.uint16)
    assert (Taking(alpha="white").of(clear, "it") == 65535).all()


def test_what_is_computed_of_no_value_is_none() -> None:
    rgb = stored(colours(3), nodata=7.0)
    rgb[2, 3, 1] = 7
    missing = (np.asarray(rgb) == 7).any(axis=2)
    taken = Taking("gray").of(rgb, "it")
    assert taken.nodata == 7 and (np.asarray(taken)[missing] == 7).all()
    assert (np.asarray(Taking("gray", nodata=9.0).of(colours(3), "it"))[(colours(3) == 9).any(axis=2)] == 9).all()


def test_a_run_and_its_model_take_the_same_of_all_files(tmp_path: Path, p2pkit: Call) -> None:
    for split in ("train", "val"):
        for index, channels in enumerate((1, 3, 4)):  # which no run takes without the key
            save(tmp_path / split / "source" / f"{index}.png", picture(16, 16, index, channels).squeeze())
            save(tmp_path / split / "target" / f"{index}.png", picture(16, 16, index + 9, 4))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(root=tmp_path))
    without = p2pkit("check", recipe)
    assert without.code == 2 and "channels" in without.out + without.err
    recipe.write_text(
        RECIPE.format(root=tmp_path)
        + '[source]\nchannels = "rgb"\nalpha = "white"\n[target]\nchannels = "gray"\nalpha = "drop"\n'
    )
    run = train(p2pkit, recipe, tmp_path / "run")
    shown = p2pkit("inspect", run, "--json").json
    assert (shown["source_channels"], shown["target_channels"]) == (3, 1)
    assert (shown["source_reading"]["channels"], shown["source_reading"]["alpha"]) == ("rgb", "white")
    outcome = p2pkit("translate", run, tmp_path / "val" / "source", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    translate = library.load_model(run, device="cpu")
    for index in range(3):
        source = Taking("rgb", "white").of(read_image(tmp_path / "val" / "source" / f"{index}.png"), "it")
        made = read_image(tmp_path / "out" / f"{index}.png")
        assert made.shape == (16, 16, 1) and np.array_equal(made, translate(source))
        tiled = p2pkit("translate", run, tmp_path / "val" / "source", "--out", tmp_path / "tiled", "--tile", 16)
        assert tiled.code == 0 and np.array_equal(read_image(tmp_path / "tiled" / f"{index}.tif"), made)
    measured = p2pkit("evaluate", run, "--json")
    assert measured.code == 0, measured.err


def test_palettes_are_colours_or_numbers_as_asked(tmp_path: Path, p2pkit: Call) -> None:
    numbers = (np.arange(16 * 16).reshape(16, 16) % 5).astype(np.uint8)
    shades = np.random.default_rng(0).integers(0, 256, (5, 3)).astype(np.uint8)
    for split in ("train", "val"):
        (tmp_path / split / "source").mkdir(parents=True)
        for index in range(2):
            image = Image.fromarray(np.roll(numbers, index, axis=1))
            image.putpalette(shades.tobytes())
            image.save(tmp_path / split / "source" / f"{index}.png")
            save(tmp_path / split / "target" / f"{index}.png", picture(16, 16, index))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(root=tmp_path))
    for palette, channels in (("colours", 3), ("indices", 1)):
        ranges = ("source.range=[0, 4]",) if palette == "indices" else ()
        run = train(p2pkit, recipe, tmp_path / palette, f'source.palette="{palette}"', *ranges)
        assert p2pkit("inspect", run, "--json").json["source_channels"] == channels
        outcome = p2pkit("translate", run, tmp_path / "val" / "source", "--out", tmp_path / f"{palette}_out")
        assert outcome.code == 0, outcome.err
        given = numbers[:, :, None] if palette == "indices" else shades[numbers]
        made = library.load_model(run, device="cpu")(given)
        assert np.array_equal(read_image(tmp_path / f"{palette}_out" / "0.png"), made)
    refused = p2pkit("run", recipe, "--set", 'target.palette="indices"', "--out", tmp_path / "refused")
    assert refused.code == 2 and 'palette = "indices", but it has 3 channels and no palette' in refused.err


def test_headers_count_what_is_taken(tmp_path: Path) -> None:
    for channels, taking, expected in ((4, Taking("rgb"), 3), (2, Taking(alpha="drop"), 1), (5, Taking("first 2"), 2)):
        write_image(tmp_path / "a.tif", colours(channels))
        found = image_header(tmp_path / "a.tif")[2]
        assert found == channels
        taken = taking.of(read_image(tmp_path / "a.tif"), "it").shape[2]
        assert taking.taken(found, "it") == taken == expected


class Turned:
    """Samples whose sources come in one order and in the other, in turn."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        sources = {"rgb": colours(3), "depth": colours(1)}
        return {"source": sources if index else dict(reversed(sources.items())), "target": colours(3)}


def test_the_recipe_gives_sources_their_order() -> None:
    first, second = (Samples(Turned(), "it", "train").read(index).header for index in range(2))
    remedy = r"agree, or the recipe give the order: \[source.depth\], \[source.rgb\]$"
    with pytest.raises(DataError, match=remedy):
        refuse_unlike(second, first)
    taking = {"source.rgb": Taking(), "source.depth": Taking()}
    first, second = (Samples(Turned(), "it", "train", taking=taking).read(index).header for index in range(2))
    assert first.parts == second.parts == (("rgb", 3), ("depth", 1))
