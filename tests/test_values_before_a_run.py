"""What pixels hold before a run: ranges that are measured, values that mean nothing, numbers that are not classes."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from p2pkit.images.reading import read_image
from p2pkit.images.writing import write_image
from p2pkit.inference.model_file import read_header
from p2pkit.training.sample_grids import GAP, TOP
from tests.conftest import Call, lines, train, validation
from tests.test_value_ranges import data_set, smooth, writer

Pixels = Any
ONE_STEP = ("--set", "train.max_steps=1", "--set", "train.checkpoint_every=1")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_12_bits_in_files_of_16_are_trained_on_in_full(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 3, 4011, "uint16")
    recipe = data_set(tmp_path, writer(".tif", pixels), writer(".tif", pixels))
    checked = p2pkit("check", recipe)
    assert checked.code == 0 and "1 channel of uint16, values 3 to 4011" in checked.out
    assert "source values: what is found becomes -1 to 1; found 3 to 4011 in all 6" in flat(checked.out)
    run = tmp_path / "run"
    outcome = p2pkit("run", recipe, "--out", run, *ONE_STEP)
    assert "source: values from 3 to 4011 become -1 to 1, as measured (auto)" in outcome.err
    header = read_header(run / "model.safetensors")
    assert header.source_range == header.target_range == (3, 4011)
    grid = np.asarray(Image.open(run / "samples" / "step_00000001.png"))
    source = grid[TOP : TOP + 128, GAP : GAP + 128]
    assert source.min() < 10 and source.max() > 245  # from black to white
    write_image(tmp_path / "data" / "train" / "source" / "0.tif", pixels * 4)
    assert p2pkit("run", "--resume", run, "--accept-changed-data", "--set", "train.max_steps=2").code == 0
    assert read_header(run / "model.safetensors").source_range == (3, 4011)


@pytest.mark.parametrize("setting", ["source.range='type'", "source.range=[0,65535]"])
def test_values_that_use_little_of_their_range_are_named(setting: str, p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 0, 4095, "uint16")
    recipe = data_set(tmp_path, writer(".tif", pixels), writer(".png", (pixels > 2000).astype(np.uint8)))
    said = (
        "sources hold values 0 to 4095 in all 6 training images, which is 6.2% of the range 0 to 65535",
        "targets hold values 0 to 1 in all 6 training images, which is 0.4% of the range 0 to 255",
        "Set target.range = [0, 1]",
    )
    checked, run = p2pkit("check", recipe, "--set", setting), p2pkit("run", recipe, *ONE_STEP, "--set", setting)
    for outcome in (checked, run):
        assert outcome.code == 0 and all(each in flat(outcome.out + outcome.err) for each in said), outcome.err
    fitting = ("--set", "source.range=[0,4095]", "--set", "target.range=[0,1]")
    assert "of the range" not in p2pkit("check", recipe, *fitting).out


def test_outliers_are_named(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(64, 64, 1, 0, 100, "float32")
    pixels[3, 4] = 1e6
    outcome = p2pkit(
        "check", data_set(tmp_path, writer(".npy", pixels), writer(".png", smooth(64, 64, 1, 0, 255, "uint8")))
    )
    assert "all but a few values lie between" in flat(outcome.out) and "source.percentiles = [0.1, 99.9]" in outcome.out


def test_files_of_several_types_are_named(p2pkit: Call, tmp_path: Path) -> None:
    dtypes = iter(["uint16"] * 3 + ["uint8"] * 5)
    recipe = data_set(
        tmp_path, lambda place: write_image(place.with_suffix(".tif"), smooth(24, 24, 1, 0, 255, next(dtypes))),
        writer(".png", smooth(24, 24, 1, 0, 255, "uint8")), '[source]\nrange = "type"\n',
    )  # fmt: skip
    assert "sources are of several types (uint16: 3, uint8: 3)" in flat(p2pkit("check", recipe).out)


def with_holes(value: float) -> Pixels:
    pixels = smooth(24, 24, 1, 10, 20, "float32")
    pixels[2:8, 3:9] = value
    return pixels


@pytest.mark.parametrize(("nodata", "value"), [("-9999.0", -9999), ("'nan'", np.nan)])
def test_values_that_mean_nothing_are_refused_or_filled(
    nodata: str, value: float, p2pkit: Call, tmp_path: Path
) -> None:
    recipe = data_set(tmp_path, writer(".npy", with_holes(value)), writer(".npy", with_holes(value)))
    named = ("--set", f"source.nodata={nodata}", "--set", f"target.nodata={nodata}")
    for command in ("check", "run"):
        refused = p2pkit(command, recipe, *named)
        assert refused.code == 2 and "36 of its 576 values mean that nothing is there" in refused.err
    whole = ("--set", "transform.load_size=24", "--set", "transform.crop_size=24")
    filled = (*named, *whole, "--set", "source.fill=15.0", "--set", "target.fill=12.0")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *filled)
    assert outcome.code == 0, outcome.err
    assert "6.25% of the values of sources mean that nothing is there" in flat(outcome.err)
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header.source_range == header.target_range == (10, 20)
    # what a hole holds changes nothing: neither training nor metrics see it
    measured = [line["validation/mae"] for line in lines(tmp_path / "run") if line.get("split") == "validation"]
    source = tmp_path / "data" / "test" / "source" / "0.npy"
    assert p2pkit("translate", tmp_path / "run", source, "--out", tmp_path / "out").code == 0
    output, wanted = np.load(tmp_path / "out" / "0.npy"), smooth(24, 24, 1, 10, 20, "float32")
    difference = np.abs(output.astype(np.float64) - wanted) / 10
    difference[2:8, 3:9] = 0
    evaluated = json.loads(p2pkit("evaluate", tmp_path / "run", "--metrics", "mae", "--json").out)
    assert evaluated["rows"]["model"]["mae"] == pytest.approx(difference.mean(), abs=1e-5)
    assert measured == [pytest.approx(difference.mean(), abs=1e-5)]


def label_data(tmp_path: Path, labels: Callable[[int], Pixels], classes: int = 4, ending: str = ".png") -> Path:
    """A recipe on label maps that a function of their number gives, painted in gray."""
    numbers = iter(range(8))
    maps = [labels(number) for number in range(8)]

    def write(place: Path) -> None:
        pixels = maps[next(numbers)]
        if ending == ".jpg":
            Image.fromarray(pixels[:, :, 0]).save(place.with_suffix(ending), quality=50)
        else:
            write_image(place.with_suffix(ending), pixels)

    gray = writer(".png", smooth(24, 24, 1, 0, 255, "uint8"))
    return data_set(tmp_path, write, gray, f'[encoding]\nname = "one_hot"\nclasses = {classes}\n')


def blocks(number: int, highest: int = 4) -> Pixels:
    drawn = np.random.default_rng(number).integers(0, highest, (6, 6), dtype=np.uint8)
    return drawn.repeat(4, axis=0).repeat(4, axis=1)[:, :, None]


def test_numbers_that_are_not_classes_are_refused(p2pkit: Call, tmp_path: Path) -> None:
    recipe = label_data(tmp_path, lambda number: blocks(number) * 17)
    for command in (["check"], ["data", "check"], ["run", "--out", tmp_path / "run"]):
        outcome = p2pkit(*command, recipe)
        assert outcome.code == 2 and "the sources are not maps of 4 classes" in outcome.err
        assert "multiples of 17" in outcome.err and re.search(r"not classes: [17345, ]+\.", outcome.err)
    assert not (tmp_path / "run").exists()


def test_a_void_number_is_no_mistake_and_few_others_are_counted(p2pkit: Call, tmp_path: Path) -> None:
    def labels(number: int) -> Pixels:
        drawn = blocks(number)
        drawn[:8, :8] = 255
        drawn[20, 20 + number % 3] = 9
        return drawn

    recipe = label_data(tmp_path, labels)
    refused = p2pkit("check", recipe)
    assert refused.code == 2 and "255" in refused.err
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *ONE_STEP, "--set", "encoding.void=255")
    assert outcome.code == 0, outcome.err
    assert "0.17% of the sources' pixels" in outcome.err and "(9)" in outcome.err
    table = p2pkit("data", "check", recipe, "--set", "encoding.void=255").out
    trained, tested = (np.stack([labels(number) for number in numbers]) for numbers in (range(6), range(6, 8)))
    for name, number in (("0", 0), ("3", 3), ("255, void", 255), ("9, not a class", 9)):
        shares = f"{np.mean(trained == number):.2%} +{np.mean(tested == number):.2%}"
        assert re.search(rf"^{name} +{shares}$", table, re.MULTILINE), table


def test_labels_that_were_compressed_with_loss_are_recognised(p2pkit: Call, tmp_path: Path) -> None:
    recipe = label_data(tmp_path, lambda number: blocks(number) * 60, classes=256, ending=".jpg")
    outcome = p2pkit("check", recipe)
    assert outcome.code == 0 and "6 of 6 label maps are JPEGs" in flat(outcome.out)
    refused = p2pkit("check", recipe, "--set", "encoding.classes=4")
    assert refused.code == 2 and "save label maps as PNG" in flat(refused.err)


@pytest.mark.parametrize(("highest", "factor"), [(4, 60), (9, 1)])
def test_labels_that_were_resampled_are_recognised(highest: int, factor: int, p2pkit: Call, tmp_path: Path) -> None:
    """By many numbers, or by few that lie between those beside them."""

    def labels(number: int) -> Pixels:
        drawn = Image.fromarray(blocks(number, highest)[:, :, 0] * np.uint8(factor))
        return np.asarray(drawn.resize((31, 31), Image.Resampling.BILINEAR).crop((0, 0, 24, 24)))[:, :, None]

    recipe = label_data(tmp_path, labels, classes=highest * factor)
    outcome = p2pkit("check", recipe)
    assert outcome.code == 0 and "resampling has mixed the numbers of classes" in flat(outcome.out), outcome.out
    sharp = p2pkit("check", label_data(tmp_path / "sharp", lambda number: blocks(number, highest), classes=highest))
    assert sharp.code == 0 and "mixed" not in sharp.out


def test_a_few_images_decide_whether_a_run_looks_at_more(p2pkit: Call, tmp_path: Path) -> None:
    numbers = iter(range(8))

    def write(place: Path) -> None:
        deep = smooth(24, 24, 1, 0, 4095, "uint16")
        write_image(place.with_suffix(".tif"), deep if next(numbers) else (deep // 16).astype(np.uint8))

    outcome = p2pkit("run", data_set(tmp_path, write, writer(".png", smooth(24, 24, 1, 0, 255, "uint8"))), *ONE_STEP)
    assert outcome.code == 0 and "sources are of several types (uint16: 5, uint8: 1)" in outcome.err


def test_pairs_that_are_skipped_do_not_count_for_the_range(p2pkit: Call, tmp_path: Path) -> None:
    numbers = iter(range(8))

    def write(place: Path) -> None:
        odd = next(numbers) == 2
        write_image(place.with_suffix(".tif"), smooth(24, 24, 3 if odd else 1, 0, 60000 if odd else 1000, "uint16"))

    recipe = data_set(tmp_path, write, writer(".png", smooth(24, 24, 1, 0, 255, "uint8")))
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *ONE_STEP, "--set", "loader.bad_data=skip")
    assert outcome.code == 0 and read_header(tmp_path / "run" / "model.safetensors").source_range == (0, 1000)


@pytest.mark.parametrize("fill", [-1, 300, 0.5])
def test_fills_that_the_type_does_not_hold_are_refused(fill: float, p2pkit: Call, tmp_path: Path) -> None:
    holes = smooth(24, 24, 1, 0, 255, "uint8")
    holes[2:8, 3:9] = 7
    recipe = data_set(tmp_path, writer(".png", holes), writer(".png", smooth(24, 24, 1, 0, 255, "uint8")))
    for command in ("check", "run"):
        outcome = p2pkit(command, recipe, "--set", "source.nodata=7", "--set", f"source.fill={fill}")
        assert outcome.code == 2 and f"fill = {fill:g} is not a value of its type, uint8" in outcome.err


def test_a_target_without_any_value_is_not_measured(p2pkit: Call, tmp_path: Path) -> None:
    numbers = iter(range(8))

    def write(place: Path) -> None:
        np.save(
            place.with_suffix(".npy"), np.full((24, 24, 1), -1, np.float32) if next(numbers) == 7 else with_holes(-1)
        )

    recipe = data_set(tmp_path, writer(".npy", smooth(24, 24, 1, 0, 1, "float32")), write)
    filled = ("--set", "target.nodata=-1", "--set", "target.fill=10", "--set", "validation.baseline=none")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *ONE_STEP, *filled)
    assert outcome.code == 0 and "test/source/1.npy: its target has no values" in outcome.err
    assert validation(tmp_path / "run")["images"] == 1


def test_maps_of_one_class_are_named(p2pkit: Call, tmp_path: Path) -> None:
    outcome = p2pkit("check", label_data(tmp_path, lambda number: np.full((24, 24, 1), 2, np.uint8)))
    assert "are of class 2, or of none" in flat(outcome.out)


def test_all_kinds_of_trouble_are_shown_at_once_in_counts(p2pkit: Call, tmp_path: Path) -> None:
    recipe = label_data(tmp_path, lambda number: blocks(number) + 3)
    folder = tmp_path / "data" / "train"
    for number in (1, 2):
        content = (folder / "target" / f"{number}.png").read_bytes()
        (folder / "target" / f"{number}.png").write_bytes(content[: len(content) // 2])
    write_image(folder / "target" / "3.png", smooth(20, 24, 1, 0, 255, "uint8"))
    write_image(folder / "source" / "lonely.png", blocks(0))
    write_image(folder / "source" / ".ipynb_checkpoints" / "0-checkpoint.png", blocks(0))
    outcome = p2pkit("check", recipe, "--set", "transform.keep_aspect=true")
    assert outcome.code == 2 and "4 kinds of trouble with the data:" in outcome.err
    said = (
        "2 pairs cannot be used, such as", "differ in size", "the sources are not maps of 4 classes",
        "1 of 7 sources and 0 of 6 targets",
    )  # fmt: skip
    assert all(each in outcome.err for each in said), outcome.err
    assert "1 image in hidden folders (.ipynb_checkpoints)" in flat(outcome.out), outcome.out
    assert len(outcome.out.splitlines()) + len(outcome.err.splitlines()) < 40


@pytest.mark.parametrize(("dtype", "span"), [("uint16", 65535), ("float32", 3900)])
def test_folders_of_outputs_are_compared_in_the_range_of_the_targets(
    dtype: str, span: float, p2pkit: Call, tmp_path: Path
) -> None:
    wanted = smooth(24, 24, 1, 100, 4000, dtype)
    made = np.clip(wanted.astype(np.float64) + 39, 0, 4000).astype(dtype)
    write_image(tmp_path / "made" / "a.tif", made)
    write_image(tmp_path / "wanted" / "a.tif", wanted)
    outcome = p2pkit("evaluate", tmp_path / "made", tmp_path / "wanted", "--metrics", "mae", "--json")
    assert outcome.code == 0, outcome.err
    expected = np.abs(made.astype(float) - wanted).mean() / span
    assert json.loads(outcome.out)["rows"]["outputs"]["mae"] == pytest.approx(expected, abs=1e-6)
    assert ("less than a fifth of the range 0 to 65535" in outcome.err) == (dtype == "uint16")


def test_a_run_that_measured_its_range_translates_in_it(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, -500, 1500, "int16")
    run = train(p2pkit, data_set(tmp_path, writer(".npy", pixels), writer(".npy", pixels)), tmp_path / "run")
    assert p2pkit("translate", run, tmp_path / "data/test/source/0.npy", "--out", tmp_path / "out").code == 0
    output = np.load(tmp_path / "out" / "0.npy")
    assert output.dtype == np.int16 and -500 <= output.min() < output.max() <= 1500


def test_maps_of_4_bits_are_numbers_of_classes(p2pkit: Call, tmp_path: Path) -> None:
    """The same maps in files of 4 and of 8 bits: the same run, and the same translation."""
    models, outputs = [], []
    for name, write in (("few", write_4_bits), ("eight", lambda place, pixels: write_image(place, pixels))):
        numbers = iter(range(8))
        recipe = data_set(
            tmp_path / name, lambda place, numbers=numbers, write=write: write(  # type: ignore[misc]
                made(place.with_suffix(".png")), blocks(next(numbers))
            ),
            writer(".png", smooth(24, 24, 1, 0, 255, "uint8")), '[encoding]\nname = "one_hot"\nclasses = 4\n',
        )  # fmt: skip
        assert "3 " in p2pkit("check", recipe).out
        run = train(p2pkit, recipe, tmp_path / name / "run")
        models.append([line["generator/l1"] for line in lines(run) if "generator/l1" in line])
        source = tmp_path / name / "data" / "test" / "source" / "0.png"
        assert p2pkit("translate", run, source, "--out", tmp_path / name / "out").code == 0
        outputs.append(read_image(tmp_path / name / "out" / "0.png"))
    assert models[0] == models[1] and np.array_equal(*outputs)
    assert outputs[0].std() > 0


def made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def write_4_bits(file: Path, pixels: Pixels) -> None:
    """A gray PNG of 4 bits a pixel; Pillow writes none."""
    height, width, _ = pixels.shape
    packed = pixels[:, 0::2, 0] << 4 | pixels[:, 1::2, 0]
    rows = b"".join(b"\0" + row.tobytes() for row in packed)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_what_gdal_calls_nodata_stays_out_of_the_range(p2pkit: Call, tmp_path: Path) -> None:
    def write(place: Path) -> None:
        tags = [(42113, 2, 0, "-9999", True)]
        tifffile.imwrite(place.with_suffix(".tif"), with_holes(-9999)[:, :, 0], metadata=None, extratags=tags)

    recipe = data_set(tmp_path, write, writer(".tif", smooth(24, 24, 1, 0, 1, "float32")))
    refused = p2pkit("run", recipe)
    assert refused.code == 2 and "36 of its 576 values mean that nothing is there (nodata -9999)" in refused.err
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *ONE_STEP, "--set", "source.fill=10")
    assert outcome.code == 0 and read_header(tmp_path / "run" / "model.safetensors").source_range == (10, 20)
    translated = p2pkit("translate", tmp_path / "run", tmp_path / "data/test/source/0.tif", "--out", tmp_path / "out")
    assert translated.code == 0, translated.err
    without = data_set(tmp_path / "two", write, writer(".tif", smooth(24, 24, 1, 0, 1, "float32")))
    skipped = p2pkit("check", without, "--set", "loader.bad_data=skip")
    assert skipped.code == 2 and "none of the 8 pairs can be used" in skipped.err


def test_colour_profiles_are_named_before_training(p2pkit: Call, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture = Image.fromarray(smooth(24, 24, 3, 0, 255, "uint8"))
    recipe = data_set(
        tmp_path, lambda place: picture.save(place.with_suffix(".png"), icc_profile=profile),
        writer(".png", smooth(24, 24, 3, 0, 255, "uint8")),
    )  # fmt: skip
    for command in ("check", "run"):
        outcome = p2pkit(command, recipe, *(ONE_STEP if command == "run" else ()))
        assert outcome.code == 0 and "6 of 6 sources have a colour profile (" in flat(outcome.out + outcome.err)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "float32", "int8", "uint16"])
def test_label_maps_of_any_type_are_numbers_of_classes(dtype: str, p2pkit: Call, tmp_path: Path) -> None:
    recipe = label_data(tmp_path, lambda number: blocks(number).astype(dtype), ending=".npy")
    table = p2pkit("check", recipe).out
    trained = np.stack([blocks(number) for number in range(6)])
    for number in range(4):
        assert re.search(rf"^{number} +{np.mean(trained == number):.2%}", table, re.MULTILINE), table
    run = train(p2pkit, recipe, tmp_path / "run")
    outputs = []
    for name, kind in (("a", dtype), ("b", "uint8")):
        np.save(made(tmp_path / f"{name}.npy"), blocks(3).astype(kind))
        assert p2pkit("translate", run, tmp_path / f"{name}.npy", "--out", tmp_path / "out").code == 0
        outputs.append(read_image(tmp_path / "out" / f"{name}.png"))
    assert np.array_equal(*outputs)


def test_label_maps_of_two_depths_are_one_data_set(p2pkit: Call, tmp_path: Path) -> None:
    recipe = label_data(
        tmp_path, lambda number: blocks(number) if not number else blocks(number).astype(np.uint16) * 100, classes=400,
        ending=".npy",
    )  # fmt: skip
    outcome = p2pkit("check", recipe)
    assert outcome.code == 0 and re.search(r"^300 +\d", outcome.out, re.MULTILINE), outcome.err


@pytest.mark.parametrize(("odd", "said"), [(0.5, "whole ones"), (1e6, "whole ones from -32768 to 65535")])
def test_what_no_class_can_be_called_is_refused(odd: float, said: str, p2pkit: Call, tmp_path: Path) -> None:
    def labels(number: int) -> Pixels:
        drawn = blocks(number).astype(np.float32)
        drawn[0, 0] = odd
        return drawn

    for command in ("check", "run"):
        outcome = p2pkit(command, label_data(tmp_path / command, labels, ending=".npy"))
        assert outcome.code == 2 and said in outcome.err


def test_a_range_that_makes_classes_of_others_is_refused(p2pkit: Call, tmp_path: Path) -> None:
    def labels(number: int) -> Pixels:
        drawn = blocks(number)
        drawn[:8] = 255
        return drawn

    recipe = label_data(tmp_path, labels)
    settings = ("--set", "encoding.void=255", "--set", "source.range=[0,3]")
    for command in ("check", "run"):
        outcome = p2pkit(command, recipe, *settings)
        assert outcome.code == 2 and "source.range turns 33.33% of the pixels of label maps" in outcome.err


def test_label_maps_to_test_are_counted_too(p2pkit: Call, tmp_path: Path) -> None:
    recipe = label_data(tmp_path, lambda number: blocks(number) if number < 6 else np.full((24, 24, 1), 9, np.uint8))
    for command in ("check", "run"):
        outcome = p2pkit(command, recipe)
        assert outcome.code == 2 and "100.00% of their pixels, in all 2 test sources" in outcome.err


def test_values_to_test_beyond_the_measured_range_are_named(p2pkit: Call, tmp_path: Path) -> None:
    numbers = iter(range(8))

    def write(place: Path) -> None:
        write_image(place.with_suffix(".tif"), smooth(24, 24, 1, 0, 1000 if next(numbers) < 6 else 4000, "uint16"))

    recipe = data_set(tmp_path, write, writer(".png", smooth(24, 24, 1, 0, 255, "uint8")))
    for command in ("check", "run"):
        outcome = p2pkit(command, recipe, *(ONE_STEP if command == "run" else ()))
        assert "sources of the test set hold values 0 to 4000 in all 2 test images, beyond 0 to 1000" in flat(
            outcome.out + outcome.err
        )


@pytest.mark.parametrize("first", ["uint16", "uint8"])
def test_files_of_several_types_keep_each_its_range(first: str, p2pkit: Call, tmp_path: Path) -> None:
    other = "uint8" if first == "uint16" else "uint16"
    dtypes = iter([first, *[other] * 7])

    def write(place: Path) -> None:
        dtype = next(dtypes)
        write_image(place.with_suffix(".tif"), smooth(24, 24, 1, 0, np.iinfo(dtype).max, dtype))

    recipe = data_set(tmp_path, write, writer(".png", smooth(24, 24, 1, 0, 255, "uint8")))
    assert "sources are of several types" in flat(p2pkit("check", recipe).out)
    p2pkit("run", recipe, "--out", tmp_path / "run", *ONE_STEP)
    assert read_header(tmp_path / "run" / "model.safetensors").source_range is None


def test_what_only_a_later_pair_shows_is_found_by_check(p2pkit: Call, tmp_path: Path) -> None:
    numbers = iter(range(8))

    def write(place: Path) -> None:
        np.save(place.with_suffix(".npy"), with_holes(-9999 if next(numbers) == 3 else 12))

    recipe = data_set(tmp_path, write, writer(".png", smooth(24, 24, 1, 0, 255, "uint8")))
    outcome = p2pkit("check", recipe, "--set", "source.nodata=-9999")
    assert outcome.code == 2 and "1 pair cannot be used: train/source/3.npy, its source: 36 of its 576" in outcome.err


@pytest.mark.parametrize("constant", [True, False])
def test_types_without_a_range_are_one_sentence(constant: bool, p2pkit: Call, tmp_path: Path) -> None:
    pixels = np.full((24, 24, 1), 7) if constant else smooth(24, 24, 1, 0, 9, "int64")
    recipe = data_set(
        tmp_path, writer(".npy", pixels.astype(np.int64)), writer(".png", smooth(24, 24, 1, 0, 255, "uint8"))
    )
    settings = () if constant else ("--set", "source.range='type'")
    for command in (["check"], ["run"], ["data", "check"]):
        outcome = p2pkit(*command, recipe, *settings)
        assert outcome.code == 2 and "no range of" in outcome.err and "Traceback" not in outcome.err
    write_image(tmp_path / "a" / "x.npy", np.full((8, 8, 1), 5, np.float32))
    assert p2pkit("evaluate", tmp_path / "a", tmp_path / "a", "--metrics", "mae").code in (0, 2)


def test_targets_beyond_the_range_are_named_by_evaluate(p2pkit: Call, tmp_path: Path) -> None:
    numbers = iter(range(8))

    def write(place: Path) -> None:
        np.save(place.with_suffix(".npy"), smooth(24, 24, 1, 0, 3 if next(numbers) < 6 else 5, "float32"))

    run = train(p2pkit, data_set(tmp_path, writer(".npy", smooth(24, 24, 1, 0, 1, "float32")), write), tmp_path / "run")
    outcome = p2pkit("evaluate", run, "--metrics", "mae")
    said = "targets of the test set hold values 0 to 5 in all 2 test images, beyond 0 to 3"
    assert outcome.code == 0 and said in outcome.err and "clipped, for metrics too" in outcome.err


def test_pairs_of_other_channels_are_counted_by_their_channels(p2pkit: Call, tmp_path: Path) -> None:
    channels = iter([1, 4, 3, 3, 3, 1, 1, 1])
    sizes = iter([24, 24, 24, 24, 20, 24, 24, 24])

    def write(place: Path) -> None:
        side = next(sizes)
        write_image(place.with_suffix(".png"), smooth(side, side, next(channels), 0, 255, "uint8"))

    heights = iter([24, 24, 24, 24, 20, 24, 24, 24])

    def target(place: Path) -> None:
        side = next(heights)
        write_image(place.with_suffix(".png"), smooth(side, side, 1, 0, 255, "uint8"))

    outcome = p2pkit("check", data_set(tmp_path, write, target))
    assert outcome.code == 2 and "2 kinds of trouble" in outcome.err
    assert "1 pair cannot be used: train/source/1.png: its source has 4 channels" in outcome.err
    assert re.search(r"3 pairs cannot be used, such as train/source/\d.png: its source has 3 channels", outcome.err)
