"""Class maps in files with a palette: the numbers that stand there, whatever colours the palette has for them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit.images.formats import ChannelsOfPalette
from p2pkit.images.pictures import image_pixels
from p2pkit.images.pixels import as_indices
from p2pkit.images.reading import image_header, read_image, read_image_bytes
from p2pkit.images.regions import open_regions
from tests.conftest import Call, picture, save, train
from tests.test_encodings import COLOURS, label_map, labels
from tests.test_translating_files import contents

__all__ = ["labels"]
SHADES = np.array([[9, 200, 30], [9, 200, 30], [90, 1, 130], [0, 0, 0], [255, 255, 255]], np.uint8)
"""Two numbers have one colour, so numbers are not known from colours."""


def with_palette(numbers: Any, colours: Any = SHADES) -> Image.Image:
    """An image of numbers [H, W] with a palette."""
    image = Image.fromarray(numbers)
    image.putpalette(colours.tobytes())
    return image


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif"])
@pytest.mark.parametrize("colours", [2, 4, 16, 250])
def test_the_numbers_of_a_palette_are_known_beside_its_colours(ending: str, colours: int, tmp_path: Path) -> None:
    random = np.random.default_rng(colours)
    numbers = random.permutation(np.arange(30 * 40) % colours).reshape(30, 40).astype(np.uint8)
    palette = random.integers(0, 256, (colours, 3)).astype(np.uint8)
    palette[1] = palette[0] + (ending == "gif")  # a GIF is written without colours that are there twice
    file = tmp_path / f"a.{ending}"
    with_palette(numbers, palette).save(file)
    shape = image_header(file)
    assert shape == (30, 40, 3) and isinstance(shape[2], ChannelsOfPalette)
    for read in (read_image(file), read_image_bytes(file.read_bytes(), "x"), image_pixels(Image.open(file))):
        assert np.array_equal(read, palette[numbers])
        assert np.array_equal(as_indices(read), numbers[:, :, None])
        # halves, tiles, rows mirrored
        for part in (np.s_[:, :20], np.s_[:, 20:], np.s_[3:17, 5:9], np.s_[::-1], np.s_[:, ::-2, :]):
            places = part[:2] if isinstance(part, tuple) else part
            assert np.array_equal(as_indices(read[part])[:, :, 0], numbers[places])
        assert np.array_equal(as_indices(read[2:20][1:5, 3:4])[:, :, 0], numbers[3:7, 3:4])
        # never numbers of other places
        for other in (read.transpose(1, 0, 2), read[:, :, 1:], read[read[:, :, 0] > 9], read + 1, np.asarray(read)):
            assert np.array_equal(as_indices(other), other)
    assert np.array_equal(as_indices(open_regions(file).read(slice(4, 9), slice(2, 8)))[:, :, 0], numbers[4:9, 2:8])


def test_numbers_are_turned_upright_with_their_colours() -> None:
    numbers, stream = label_map(1)[:, :8, 0].copy(), BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    with_palette(numbers).save(stream, "PNG", exif=exif)
    read = read_image_bytes(stream.getvalue(), "a.png")
    assert np.array_equal(as_indices(read)[:, :, 0], np.rot90(numbers, -1)) and np.array_equal(
        read, SHADES[np.rot90(numbers, -1)]
    )


@pytest.mark.parametrize("cache", ["memory", "none", "disk", "device"])
def test_a_run_takes_the_numbers_of_palettes(cache: str, labels: Path, tmp_path: Path, p2pkit: Call) -> None:
    few = ("train.max_steps=3", f"loader.cache={cache}")
    gray = train(p2pkit, labels, tmp_path / "gray", *few)
    for index, file in enumerate(sorted((tmp_path / "labels").rglob("classes/*.png"))):
        image = with_palette(np.asarray(Image.open(file)))
        if index % 3:
            file.unlink()
            image.save(file.with_suffix((".tif", ".bmp")[index % 3 - 1]))
        elif index:
            image.save(file)  # and one stays gray
    assert "1x16x16 -> 3x16x16" in p2pkit("check", labels).out
    assert p2pkit("data", "check", labels).code == 0
    run = train(p2pkit, labels, tmp_path / "palettes", *few)
    trained = (each / "checkpoints/step_00000003/networks.safetensors" for each in (gray, run))
    assert next(trained).read_bytes() == next(trained).read_bytes()
    # and so does translation, whatever way an image comes
    numbers = label_map(7, 20)
    plain = save(tmp_path / "plain" / "a.png", numbers)
    coloured = tmp_path / "coloured" / "a.png"
    coloured.parent.mkdir()
    with_palette(numbers[:, :, 0]).save(coloured)
    for number, options in enumerate(([], ["--tile", "16"])):
        for folder in (plain.parent, coloured.parent):
            outcome = p2pkit("translate", run, folder, "--out", tmp_path / f"{folder.name}{number}", *options)
            assert outcome.code == 0 and "NOTICE" not in outcome.err, outcome.err
        assert contents(tmp_path / f"plain{number}") == contents(tmp_path / f"coloured{number}")
    translate = library.load_model(run, "cpu")
    expected = translate(numbers)
    for given in (coloured, Image.open(coloured), with_palette(numbers[:, :, 0]), read_image(coloured)):
        assert np.array_equal(np.asarray(translate(given)), expected)
    with pytest.raises(DataError, match="it has 3 channels; this model takes 1"):
        translate(SHADES[numbers[:, :, 0]])
    found = [p2pkit("evaluate", run, "--json", "--metrics", "mae", "--split", "test").json["rows"]["model"]["mae"]]
    found += [p2pkit("evaluate", gray, "--json", "--metrics", "mae").json["rows"]["model"]["mae"]]
    assert found[0] == found[1] > 0


def test_halves_of_a_file_with_a_palette(tmp_path: Path) -> None:
    palette = np.concatenate([SHADES, COLOURS])
    for split in ("train", "test"):
        (tmp_path / "pairs" / split).mkdir(parents=True)
        for index in range(2):
            numbers = label_map(index)[:, :, 0]
            with_palette(np.concatenate([numbers, numbers + 5], axis=1), palette).save(
                tmp_path / "pairs" / split / f"{index}.png"
            )
    recipe = {
        "data": {"name": "side_by_side", "root": str(tmp_path / "pairs")},
        "encoding": {"name": "one_hot", "classes": 5},
    }
    data = library.load_data(recipe)
    for index in range(2):
        sample, numbers = data.train[index], label_map(index)
        assert np.array_equal(sample.source, numbers) and np.array_equal(sample.target, COLOURS[numbers[:, :, 0]])
        assert data.train.header(index) == sample.header
    # without an encoding colours are what counts
    colours = library.load_data({"data": recipe["data"]}).train[0].source
    assert np.array_equal(colours, SHADES[label_map(0)[:, :, 0]])


def test_images_in_colour_are_no_class_maps(labels: Path, tmp_path: Path, p2pkit: Call) -> None:
    save(tmp_path / "labels" / "train" / "classes" / "3.png", picture(24, 24, 1))
    outcome = p2pkit("check", labels)
    assert outcome.code == 2 and "has 3 channels" in outcome.err


def test_without_an_encoding_a_run_takes_the_colours(recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    files = sorted(pairs.rglob("*.png"))
    for file in files:
        Image.open(file).quantize(16).save(file)
    run = train(p2pkit, recipe, tmp_path / "palettes", "train.max_steps=2")
    for file in files:
        save(file, np.asarray(Image.open(file).convert("RGB")))
    plain = train(p2pkit, recipe, tmp_path / "plain", "train.max_steps=2")
    trained = (each / "checkpoints/step_00000002/networks.safetensors" for each in (run, plain))
    assert next(trained).read_bytes() == next(trained).read_bytes()
