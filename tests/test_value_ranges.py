"""Images of any depth and channels through the command line: trained on, translated, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from p2pkit import load_model
from p2pkit.data.value_ranges import Percentiles
from p2pkit.images.pixels import denormalize, normalize
from p2pkit.images.reading import read_image
from p2pkit.images.writing import write_image
from p2pkit.inference.model_file import read_header
from tests.conftest import SMALL, Call, distribution, train
from tests.test_formats import values, write_bomb
from tests.test_images import deep_png

Pixels = Any
RANDOM = np.random.default_rng(0)
FOLDERS = '[data]\nname = "paired_folders"\nroot = "{root}"\n'


def smooth(height: int, width: int, channels: int, low: float, high: float, dtype: str) -> Pixels:
    """A gradient from low to high, turned another way in each channel."""
    rows, columns = np.mgrid[0:height, 0:width] / (max(height, width) - 1)
    mixed = [rows * (index % 2) + columns * ((index + 1) % 2) for index in range(channels)]
    return (low + (high - low) * np.stack(mixed, axis=2)).astype(dtype)


def data_set(tmp_path: Path, source: Callable[[Path], Any], target: Callable[[Path], Any], sections: str = "") -> Path:
    """A recipe on six training pairs and two to test, whose sides are written by functions of their paths."""
    root = tmp_path / "data"
    for split, count in (("train", 6), ("test", 2)):
        for side, write in (("source", source), ("target", target)):
            (root / split / side).mkdir(parents=True)
            for index in range(count):
                write(root / split / side / str(index))
    recipe = tmp_path / "recipe.toml"
    begin, end = SMALL.index("[data]"), SMALL.index("[loader]")
    recipe.write_text(SMALL[:begin] + FOLDERS.format(root=root) + sections + SMALL[end:])
    return recipe


def writer(ending: str, pixels: Pixels) -> Callable[[Path], None]:
    return lambda place: write_image(place.with_name(place.name + ending), pixels)


def translated(p2pkit: Call, tmp_path: Path, recipe: Path, source: Path, *options: object) -> Path:
    """What a model trained by ``recipe`` makes of ``source``: the only file in the folder of outputs."""
    run = train(p2pkit, recipe, tmp_path / "run")
    outcome = p2pkit("translate", run, source, "--out", tmp_path / "out", *options)
    assert outcome.code == 0, outcome.err
    (output,) = (tmp_path / "out").glob("[!.]*")
    assert np.asarray(Image.open(run / "samples" / "step_00000004.png")).shape[2] == 3
    return output


def test_8_bit_colour(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 3, 0, 255, "uint8")
    recipe = data_set(tmp_path, writer(".png", pixels), writer(".png", 255 - pixels))
    output = translated(p2pkit, tmp_path, recipe, tmp_path / "data" / "test" / "source" / "0.png")
    with Image.open(output) as image:
        assert (output.name, image.mode, image.size) == ("0.png", "RGB", (24, 24))


GEOGRAPHIC = [
    (33550, 12, 3, (0.25, 0.25, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 449123.5, 5411987.25, 0.0), True),
    (34735, 3, 8, (1, 1, 0, 1, 3072, 0, 1, 32633), True),
    (34736, 12, 1, (298.257223563,), True),
    (34737, 2, 0, "WGS 84 / UTM zone 33N|", True),
    (42113, 2, 0, "-9999", True),
]


def raw(file: tifffile.TiffFile, tag: tifffile.TiffTag) -> bytes:
    file.filehandle.seek(tag.valueoffset)
    return bytes(file.filehandle.read(tag.valuebytecount))


@pytest.mark.parametrize("tile", [None, 16])
def test_16_bit_gray_tiff_keeps_its_place_on_earth(tile: int | None, p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 0, 60000, "uint16")

    def write(place: Path) -> None:
        tifffile.imwrite(
            place.with_suffix(".tif"), pixels[:, :, 0], metadata=None, extratags=GEOGRAPHIC, byteorder=">",
            description="Größe 7".encode("latin1"), resolution=((300, 7), (299, 7)), resolutionunit="CENTIMETER",
        )  # fmt: skip

    source = tmp_path / "data" / "test" / "source" / "0.tif"
    options = ("--tile", tile) if tile else ()
    output = translated(p2pkit, tmp_path, data_set(tmp_path, write, write), source, *options)
    assert output.name == "0.tif"
    again = load_model(tmp_path / "run", device="cpu")(tifffile.imread(source), tile=tile)
    assert np.array_equal(tifffile.imread(output), again)
    with tifffile.TiffFile(output) as made, tifffile.TiffFile(source) as given:
        one, other = made.pages[0], given.pages[0]
        assert (one.shape, one.dtype) == ((24, 24), np.uint16)
        assert 42113 in other.tags and 42113 not in one.tags  # of a translation no pixel means nothing
        for code in (270, 282, 283, 296, *(tag[0] for tag in GEOGRAPHIC[:-1])):
            assert one.tags[code].value == other.tags[code].value
            assert one.tags[code].dtype == other.tags[code].dtype
            assert raw(made, one.tags[code]) == raw(given, other.tags[code])
    with Image.open(output) as image:
        assert image.mode.startswith("I;16")


def test_5_channels_of_floats_to_8_bit_colour(p2pkit: Call, tmp_path: Path) -> None:
    floats = smooth(24, 24, 5, -300, 1200, "float32")
    sides = writer(".tif", floats), writer(".png", smooth(24, 24, 3, 0, 255, "uint8"))
    recipe = data_set(tmp_path, *sides, sections="[source]\nrange = [-300, 1200]\n")
    checked = p2pkit("check", recipe)
    assert "source: 24x24 (height x width), 5 channels of float32, values -300 to 1200" in checked.out
    assert "target: 24x24 (height x width), 3 channels of uint8, values 0 to 255" in checked.out
    source = tmp_path / "data" / "test" / "source" / "0.tif"
    output = translated(p2pkit, tmp_path, recipe, source)
    with Image.open(output) as image:
        assert (output.name, image.mode, image.size) == ("0.png", "RGB", (24, 24))
    assert p2pkit("translate", tmp_path / "run", source, "--out", tmp_path / "again", "--format", "tif").code == 0
    assert np.array_equal(tifffile.imread(tmp_path / "again" / "0.tif"), np.asarray(Image.open(output)))
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert (header.source_range, header.target_range) == ((-300, 1200), None)


def test_arrays_to_arrays(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 2, 5, 25, "float64")
    recipe = data_set(
        tmp_path, writer(".npy", pixels), writer(".npy", pixels[:, :, :1]),
        "[source]\npercentiles = [1, 99]\n[target]\nrange = [10, 20]\n",
    )  # fmt: skip
    output = np.load(translated(p2pkit, tmp_path, recipe, tmp_path / "data" / "test" / "source" / "0.npy"))
    assert (output.shape, output.dtype) == ((24, 24, 1), np.float64)
    assert 10 <= output.min() < output.max() <= 20


def test_volumes_stay_where_they_are_in_space(p2pkit: Call, tmp_path: Path) -> None:
    pixels, affine = smooth(24, 24, 2, -100, 900, "int16"), np.diag([0.5, 0.5, 3.0, 1.0])

    def write(place: Path) -> None:
        nibabel.Nifti1Image(pixels, affine).to_filename(place.with_name(place.name + ".nii.gz"))

    recipe = data_set(tmp_path, write, write, "[source]\nrange = [-100, 900]\n[target]\nrange = [-100, 900]\n")
    output = translated(p2pkit, tmp_path, recipe, tmp_path / "data" / "test" / "source" / "0.nii.gz")
    made = nibabel.load(output)
    assert output.name == "0.nii.gz" and made.shape == (24, 24, 2) and made.get_data_dtype() == np.int16
    assert np.array_equal(made.affine, affine)


SAME = '''
import p2pkit

@p2pkit.hookimpl
def register_generators(register):
    from torch import Tensor, nn

    class Same(nn.Module):
        """Gives back its source, but for a weight that is next to nothing."""

        def __init__(self, source_channels: int, target_channels: int) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(source_channels, target_channels, 1)
            nn.init.zeros_(self.convolution.weight)
            nn.init.zeros_(self.convolution.bias)

        def forward(self, source: Tensor) -> Tensor:
            return source + 1e-9 * self.convolution(source)

    register("same", Same)
'''


def test_a_ramp_of_16_bits_keeps_its_levels(p2pkit: Call, tmp_path: Path) -> None:
    plugins = distribution(tmp_path / "plugins", "p2pkit-same", "0.1", {"same": "p2pkit_same"})
    (plugins / "p2pkit_same.py").write_text(SAME)
    ramp = (np.arange(96 * 96) * 7).astype(np.uint16).reshape(96, 96, 1)
    recipe = data_set(tmp_path, writer(".tif", ramp), writer(".tif", ramp))
    recipe.write_text(recipe.read_text().replace("depth = 3\nwidth = 4", 'name = "same"'))
    outcome = p2pkit("--plugins-dir", plugins, "run", recipe, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    source = tmp_path / "data" / "test" / "source" / "0.tif"
    again = p2pkit("--plugins-dir", plugins, "translate", tmp_path / "run", source, "--out", tmp_path / "out",
                   "--size", "native")  # fmt: skip
    assert again.code == 0, again.err
    assert np.array_equal(read_image(tmp_path / "out" / "0.tif"), ramp)
    assert len(np.unique(ramp)) == 9216


def test_percentiles_are_found_once_and_kept(p2pkit: Call, tmp_path: Path) -> None:
    images = [(RANDOM.random((24, 24, 1)) ** 4 * 5000).astype(np.float32) for _ in range(16)]
    left = iter(images)
    target = writer(".png", np.zeros((24, 24, 1), np.uint8))
    recipe = data_set(
        tmp_path, lambda place: write_image(place.with_suffix(".tif"), next(left)), target,
        "[source]\npercentiles = [0.5, 99.5]\n",
    )  # fmt: skip
    trained = np.concatenate([image.ravel() for image in images[:6]])
    low, high = (float(np.percentile(trained, q, method="inverted_cdf")) for q in (0.5, 99.5))
    assert f"values {low:g} to {high:g}" in p2pkit("check", recipe).out
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_steps=2")
    assert read_header(run / "model.safetensors").source_range == (low, high)
    for file in (tmp_path / "data" / "train" / "source").iterdir():  # other values, of the same size
        write_image(file, np.full((24, 24, 1), 7, np.float32))
    assert p2pkit("run", "--resume", run, "--accept-changed-data", "--set", "train.max_steps=3").code == 0
    resuming = ("--continue", "--set", "train.max_steps=3")  # the changed data is the run's by now
    assert p2pkit("run", recipe, "--out", run, *resuming).code == 0
    header = read_header(run / "model.safetensors")
    assert (header.step, header.source_range) == (3, (low, high))


def test_ranges_that_cannot_be(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 0, 9, "float32")
    recipe = data_set(tmp_path, writer(".tif", pixels), writer(".png", np.full((24, 24, 1), 5, np.uint8)))
    for setting, said in {
        'source.range="type"': "floating-point pixels must lie in [0, 1]; found 0.0 to 9.0. For others set range",
        "source.range=[9,0]": "the lower number first",
        "source.range=[0,nan]": "source.range",
        "source.percentiles=[-1,100]": "source.percentiles",
        "target.range=[0,300]": "targets are of uint8, which holds less",
        "target.percentiles=[1,99]": "percentiles 1 and 99 of the training pairs are 5 and 5, which is not a range",
    }.items():
        settings = ("--set", "source.range=[0,9]", "--set", setting)
        for command in ("check", "run"):
            outcome = p2pkit(command, recipe, *settings)
            assert outcome.code == 2 and said in outcome.err, (setting, outcome.err)
    both = p2pkit("check", recipe, "--set", "source.range=[0,9]", "--set", "source.percentiles=[1,99]")
    assert both.code == 2 and "either range or percentiles" in both.err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("source.range=[]", '[low, high], a list with one of these for each channel, "auto" or "type"'),
        ("source.range=[[9,0], [0,1], [0,1]]", "the lower number first, then a higher one"),
        ('source.range="automatic"', '[low, high], a list with one of these for each channel, "auto" or "type"'),
        (
            'source.channels="first 0"',
            '"rgb", "gray", "lab_L", "lab_ab", or "first N" with a number from 1 on, such as "first 3"',
        ),
        ('target.alpha="#12345"', '"drop", "white", "black", or a colour of six digits, "#rrggbb"'),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(setting: str, said: str, recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("check", recipe, "--set", setting)
    assert outcome.code == 2 and outcome.err.count("expected") == 1 and f"expected {said}" in outcome.err


def test_what_is_no_number_is_named_and_counted(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 1, 0, 1, "float32")
    recipe = data_set(tmp_path, writer(".tif", pixels), writer(".tif", pixels))
    bad = pixels.copy()
    bad[3, 4:7] = [[np.nan], [np.inf], [-np.inf]]
    write_image(tmp_path / "data" / "train" / "target" / "4.tif", bad)
    said = "train/source/4.tif, its target: 3 of its 576 values are not finite"
    for command in (["data", "check"], ["run"], ["run", "--set", "target.percentiles=[0,100]"]):
        outcome = p2pkit(*command, recipe)
        assert outcome.code == 2 and said in outcome.err
    run = tmp_path / "run"
    settings = ("--set", "loader.bad_data=skip", "--set", "target.percentiles=[0,100]")
    skipped = p2pkit("run", recipe, "--out", run, *settings)
    assert skipped.code == 0 and said in skipped.err
    assert read_header(run / "model.safetensors").target_range == (0, 1)


def test_bad_files_are_reported_and_the_others_done(p2pkit: Call, tmp_path: Path) -> None:
    pixels = smooth(24, 24, 2, 0, 1, "float32")
    run = train(p2pkit, data_set(tmp_path, writer(".tif", pixels), writer(".tif", pixels)), tmp_path / "run")
    folder = tmp_path / "in"
    for name, spoilt in {
        "nan.tif": pixels * np.nan, "outside.tif": pixels * 3, "three.tif": np.dstack([pixels, pixels[:, :, :1]]),
        "fine.tif": pixels, "odd\n\U0001f600.npy": pixels,
    }.items():  # fmt: skip
        write_image(folder / name, spoilt)
    (folder / "cut.tif").write_bytes((folder / "fine.tif").read_bytes()[:-9])
    (folder / "text.npy").write_text("no array")
    write_bomb(folder / "bomb.tif")
    outcome = p2pkit("translate", run, folder, "--out", tmp_path / "out")
    assert outcome.code == 2 and "6 of 8 images could not be translated; the other 2 are done" in outcome.err
    for said in (
        "nan.tif: 1152 of its 1152 values are not finite", "outside.tif: floating-point pixels must lie in [0, 1]",
        "three.tif: it has 3 channels; this model takes 2", "cut.tif: the image is incomplete",
        "text.npy: this is not an image", "bomb.tif: refused, it unpacks to more pixels than are plausible",
    ):  # fmt: skip
        assert said in outcome.err
    assert {file.name for file in (tmp_path / "out").glob("[!.]*")} == {"fine.tif", "odd\n\U0001f600.tif"}


@pytest.mark.parametrize(("dtype", "low", "high"), [("int16", -1024, 3071), ("int32", -500_000, 500_000)])
def test_every_value_of_a_range_survives(dtype: str, low: int, high: int) -> None:
    levels = np.arange(low, high + 1, dtype=dtype).reshape(1, -1, 1)
    assert np.array_equal(denormalize(normalize(levels, "x", (low, high)), levels.dtype, (low, high)), levels)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "uint32", "int32"])
def test_a_type_without_a_range_is_used_in_full(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = RANDOM.integers(limits.min, limits.max, (64, 64, 1), dtype=dtype, endpoint=True)
    values[0, 0], values[0, 1] = limits.min, limits.max
    unit = normalize(values, "x")
    assert (unit.min(), unit.max()) == (-1, 1)
    error = np.abs(denormalize(unit, values.dtype).astype(np.float64) - values).max()
    assert error <= (128 if values.itemsize == 4 else 0)  # float32 has 24 bits


def test_values_outside_a_declared_range_are_clipped() -> None:
    pixels = np.array([[[-5], [0], [50], [100], [999]]], np.int16)
    assert normalize(pixels, "x", (0, 100)).flatten().tolist() == [-1, -1, 0, 1, 1]


def test_colour_of_16_bits_trains_and_becomes_tiff(p2pkit: Call, tmp_path: Path) -> None:
    content = deep_png(smooth(24, 24, 3, 0, 65535, "uint16"))
    recipe = data_set(tmp_path, *[lambda place: place.with_suffix(".png").write_bytes(content)] * 2)
    output = translated(p2pkit, tmp_path, recipe, tmp_path / "data" / "test" / "source" / "0.png")
    assert output.name == "0.tif" and tifffile.imread(output).dtype == np.uint16
    refused = p2pkit("translate", tmp_path / "run", tmp_path / "data/test/source/0.png", "--out", tmp_path / "png",
                     "--format", "png")  # fmt: skip
    assert refused.code == 2 and "a PNG cannot hold 3 channels of uint16" in refused.err


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_percentiles_are_those_of_all_values(dtype: str) -> None:
    parts = [values(dtype, 50, 20 + index) for index in range(5)]
    wanted = [0, 0.5, 50, 99.5, 100]
    search = Percentiles(wanted)
    for part in parts:
        search.add(part)
    search.read_again()
    for part in reversed(parts):
        search.add(part)
    everything = np.concatenate([part.ravel() for part in parts]).astype(np.float32)
    assert search.found() == [np.percentile(everything, q, method="inverted_cdf") for q in wanted]
