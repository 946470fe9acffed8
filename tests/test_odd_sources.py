"""Sources unlike those of training: named by every way that a model is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit.images.writing import write_image
from tests.conftest import Call, train
from tests.test_value_ranges import data_set, smooth, writer
from tests.test_values_before_a_run import Pixels, blocks, label_data, write_4_bits


def test_sources_unlike_those_of_training_are_named(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 0, 4000, "uint16")
    run = train(p2pkit, data_set(tmp_path, writer(".tif", pixels), writer(".tif", pixels)), tmp_path / "run")
    folder = tmp_path / "in"
    for name, odd in {"a": pixels * 4, "b": pixels * 5, "c": (pixels // 16).astype(np.uint8), "d": pixels}.items():
        write_image(folder / f"{name}.tif", odd)
    for options in ((), ("--tile", "16")):
        outcome = p2pkit("translate", run, folder, "--out", tmp_path / f"out{len(options)}", *options)
        assert outcome.code == 0, outcome.err
        assert (
            "2 of the sources have more than 1% of their values beyond the range, and these are clipped" in outcome.err
        )
        assert "1 of the sources are of uint8 and take up less than a fifth of the range" in outcome.err


def test_the_range_named_is_that_of_training(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 0, 255, "uint8")
    run = train(p2pkit, data_set(tmp_path, writer(".tif", pixels), writer(".tif", pixels)), tmp_path / "run")
    write_image(tmp_path / "in" / "a.tif", pixels.astype(np.uint16))
    outcome = p2pkit("translate", run, tmp_path / "in", "--out", tmp_path / "out")
    assert "less than a fifth of the range: the model was trained on 0 to 255 of uint8" in outcome.err


def test_label_maps_of_other_classes_are_named_at_translation(p2pkit: Call, tmp_path: Path) -> None:
    run = train(p2pkit, label_data(tmp_path, blocks), tmp_path / "run")
    write_image(tmp_path / "in" / "a.png", blocks(3, 9))
    write_image(tmp_path / "in" / "b.png", blocks(3))
    outcome = p2pkit("translate", run, tmp_path / "in", "--out", tmp_path / "out")
    assert (
        outcome.code == 0 and "1 of the sources have numbers that are not those of the model's 4 classes" in outcome.err
    )


def test_python_says_of_each_kind_once_what_is_odd(
    p2pkit: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = smooth(24, 24, 1, 0, 4000, "uint16")
    run = train(p2pkit, data_set(tmp_path, writer(".tif", pixels), writer(".tif", pixels)), tmp_path / "run")
    write_image(tmp_path / "a.tif", pixels * 4)
    few, clipped = (pixels // 16).astype(np.uint8), np.minimum(pixels * 4, 4000)
    for tile in (None, 16):
        translate = library.load_model(run, "cpu")
        capsys.readouterr()
        expected = translate(clipped, tile=tile)
        assert "of the sources" not in capsys.readouterr().err
        for given in (pixels * 4, tmp_path / "a.tif", [pixels * 4, pixels * 4]):
            made = translate(given, tile=tile)
            assert np.array_equal(np.squeeze(made[0] if isinstance(given, list) else made), expected[:, :, 0])
        said = capsys.readouterr().err
        assert said.count("NOTICE") == said.count("more than 1% of their values beyond the range") == 1
        translate(few, tile=tile)
        assert capsys.readouterr().err.count("are of uint8 and take up less than a fifth of the range") == 1


def test_python_says_that_numbers_are_no_classes_and_reads_few_bits_as_they_are(
    p2pkit: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(p2pkit, label_data(tmp_path, blocks), tmp_path / "run")
    translate, numbers = library.load_model(run, "cpu"), blocks(3)
    expected = translate(numbers)
    write_4_bits(tmp_path / "a.png", numbers)
    capsys.readouterr()
    for given in (Image.open(tmp_path / "a.png"), tmp_path / "a.png"):
        assert np.array_equal(np.asarray(translate(given)), expected[:, :, 0])
    assert "NOTICE" not in capsys.readouterr().err
    loaded = Image.open(tmp_path / "a.png")
    loaded.load()  # Pillow has multiplied the numbers and does not know it any more
    for given in (loaded, numbers * 17):
        translate(given)
    assert capsys.readouterr().err.count("numbers that are not those of the model's 4 classes") == 1


@pytest.mark.parametrize("kind", ["classes", "range"])
def test_every_tile_is_looked_at(kind: str, p2pkit: Call, tmp_path: Path) -> None:
    if kind == "classes":
        run, good, bad = train(p2pkit, label_data(tmp_path, blocks), tmp_path / "run"), blocks(3), blocks(3, 9)
        said = "1 of the sources have numbers that are not those of the model's 4 classes"
    else:
        good = smooth(24, 24, 1, 0, 4000, "uint16")
        run = train(p2pkit, data_set(tmp_path, writer(".tif", good), writer(".tif", good)), tmp_path / "run")
        bad, said = good + np.uint16(9000), "1 of the sources have more than 1% of their values beyond the range"
    rows = [good.squeeze()] * 5
    write_image(tmp_path / "in" / "a.tif", np.concatenate([*rows, bad.squeeze()])[:, :, None])
    write_image(tmp_path / "in" / "b.tif", np.concatenate([*rows, rows[0]])[:, :, None])
    options = ("--tile", "16", "--overlap", "0", "--samples", "2")
    outcome = p2pkit("translate", run, tmp_path / "in", "--out", tmp_path / "out", *options)
    assert outcome.code == 0 and outcome.err.count(said) == outcome.err.count("of the sources ") == 1, outcome.err


def test_evaluate_says_which_sources_are_unlike_those_of_training(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 0, 4000, "uint16")
    recipe = data_set(tmp_path, writer(".tif", pixels), writer(".tif", pixels))
    run = train(p2pkit, recipe, tmp_path / "run")
    for name, odd in {"a": pixels * 4, "b": pixels * 5, "d": pixels}.items():
        write_image(tmp_path / "s" / f"{name}.tif", odd)
        write_image(tmp_path / "t" / f"{name}.tif", pixels)
    outcome = p2pkit("evaluate", run, "--data", tmp_path / "s", tmp_path / "t", "--metrics", "mae")
    assert outcome.code == 0 and "2 of the sources have more than 1% of their values beyond" in outcome.err, outcome.err
    outcome = p2pkit("evaluate", run, "--data", tmp_path / "t", tmp_path / "t", "--metrics", "mae")
    assert outcome.code == 0 and "of the sources" not in outcome.err


@pytest.mark.parametrize("kind", ["float", "int64", "nodata"])
def test_translation_says_what_to_do_with_the_file_not_with_a_recipe(kind: str, model: Path, tmp_path: Path) -> None:
    pixels: Pixels = {"float": np.full((16, 16, 3), 7.0, "float32"), "int64": np.full((16, 16, 3), 7)}.get(
        kind, np.full((16, 16, 3), 7, np.uint8)
    )
    file = tmp_path / ("a.tif" if kind == "nodata" else "a.npy")
    if kind == "nodata":
        tifffile.imwrite(file, pixels, photometric="rgb", metadata=None, extratags=[(42113, 2, 0, "7", True)])
    else:
        np.save(file, pixels)
    said = "without fill, so put a value" if kind == "nodata" else "convert the source to uint8 of 0 to 255"
    with pytest.raises(DataError, match=said) as raised:
        library.load_model(model, "cpu")(file)
    assert "recipe" not in str(raised.value)
