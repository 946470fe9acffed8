"""Images in tiles: what is read and written region by region, without seams, with the statistics of the whole."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from p2pkit.images.region_writing import written_in_regions
from p2pkit.images.regions import ArrayRegions, open_regions
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.policy import Policy
from p2pkit.inference.tiles import Blend, Tiling
from p2pkit.inference.translator import Translator, load_model
from p2pkit.networks.noise import dropout_mask, normal_noise
from tests.conftest import Call, picture, save


def translator(network: torch.nn.Module, channels: int = 3, **policy: Any) -> Translator:
    header = ModelHeader(
        generator="given", parameters={}, distribution="p2pkit", distribution_version="0", source_channels=channels,
        target_channels=channels, source_dtype="uint8", target_dtype="uint8",
    )  # fmt: skip
    return Translator(network.requires_grad_(False), header, Policy(**policy))


class Convolutions(torch.nn.Module):
    """Sees three pixels to each side, with layers in between of which the first is used twice."""

    def __init__(self, *between: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        first, last = (torch.nn.Conv2d(*ends, 3, padding=1, padding_mode="reflect") for ends in ((3, 8), (8, 3)))
        middle = torch.nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.layers = torch.nn.Sequential(first, *between, torch.nn.ReLU(), middle, *between[:1], last, torch.nn.Tanh())

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layers(source)
        return output


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (64, 1000), (129, 128), (301, 417)])
@pytest.mark.parametrize(("size", "overlap"), [(128, 32), (128, 64), (64, 0)])
def test_tiles_that_change_nothing_blend_into_the_image(height: int, width: int, size: int, overlap: int) -> None:
    image, tiling, blend = torch.rand(2, height, width), Tiling(size, overlap), Blend()
    found = torch.zeros_like(image)
    for row, column in itertools.product(tiling.along(height), tiling.along(width)):
        tile = image[:, row.start : row.start + row.size, column.start : column.start + column.size]
        assert tile.shape[1:] == (min(size, height), min(size, width))
        found[:, row.begin : row.end, column.begin : column.end] += blend.add(row, column, tile)
    assert torch.allclose(found, image, atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [[torch.nn.BatchNorm2d(8)], [torch.nn.InstanceNorm2d(8)], [torch.nn.GroupNorm(2, 8)], []],
    ids=["batch", "instance", "group", "none"],
)
def test_a_tile_is_normalised_as_part_of_its_image(layers: list[torch.nn.Module]) -> None:
    pixels = picture(192, 160, 0)
    pixels = (pixels * np.linspace(0.1, 1, 160)[None, :, None]).astype(np.uint8)  # every tile differs from the whole
    translate = translator(Convolutions(*layers))
    whole, tiles = translate(pixels).astype(int), translate(pixels, tile=64, overlap=16).astype(int)
    assert np.abs(whole - tiles).max() <= 2


def test_noise_is_that_of_the_image_wherever_tiles_lie() -> None:
    pixels = picture(150, 130, 0)
    translate = translator(Convolutions(torch.nn.Identity(), torch.nn.Dropout(0.5)))
    whole = translate(pixels, seed=3).astype(int)
    assert np.abs(whole - translate(pixels, seed=4)).mean() > 1
    for tile, overlap in ((64, 16), (100, 20)):
        assert np.abs(whole - translate(pixels, seed=3, tile=tile, overlap=overlap)).max() <= 1


def test_noise_has_its_probability_and_no_pattern() -> None:
    def places(*corners: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor(corners, dtype=torch.int32)

    seeds = torch.tensor([1, 2], dtype=torch.int32)
    for draw, mean, variance in ((partial(dropout_mask, 0.3), 0.7, 0.21), (normal_noise, 0.0, 1.0)):
        drawn = draw((16, 64, 64), places((0, -7, 5), (0, 3, 3)), seeds)[0].float()
        assert abs(drawn.mean() - mean) < 0.01 and abs(drawn.var() - variance) < 0.02
        centred = (drawn - mean) / variance**0.5
        for shift in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 8, 0)):
            assert (centred * centred.roll(shift, (0, 1, 2))).mean().abs() < 0.02
        other, part = draw((16, 20, 9), places((0, 3, 10), (0, 3, 10)), seeds.flip(0))
        assert torch.equal(part.float(), drawn[:, 10:30, 5:14]) and not torch.equal(other, part)
        # what a graph of torch.compile draws, and what a GPU does
        compiled = torch.compile(draw, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled((16, 20, 9), places((0, 3, 10)), seeds[:1])[0], part)


def saved_tiff(file: Path, pixels: Any, **options: Any) -> Path:
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file


@pytest.mark.parametrize("ending", [".tif", ".npy"])
def test_a_unet_leaves_no_seams(model: Path, tmp_path: Path, p2pkit: Call, ending: str) -> None:
    pixels = picture(300, 420, 0)
    if ending == ".tif":
        saved_tiff(tmp_path / "a.tif", pixels, photometric="rgb", tile=(64, 64), compression="zlib")
    else:
        np.save(tmp_path / "a.npy", pixels)
    arguments = ("--tile", 128, "--overlap", 32, "--batch-size", 3)
    outcome = p2pkit("translate", model, tmp_path / f"a{ending}", "--out", tmp_path / "o", *arguments)
    assert outcome.code == 0, outcome.err
    assert "tile" in outcome.err
    output = tmp_path / "o" / f"a{ending}"
    found = (tifffile.imread(output) if ending == ".tif" else np.load(output)).astype(int)
    assert found.shape == pixels.shape and found.std() > 5
    for axis in (0, 1):
        spans = Tiling(128, 32).along(pixels.shape[axis])
        differences = np.abs(np.diff(found, axis=axis)).mean(axis=(1 - axis, 2))
        borders = {place - 1 for span in spans[1:] for place in (span.start, span.begin, span.begin + span.fade)}
        others = sorted(set(range(len(differences))) - borders)
        assert max(differences[place] for place in borders) <= differences[others].max()
        assert differences[sorted(borders)].mean() <= 1.1 * differences[others].mean()


def test_tiles_from_the_command_line_and_python_in_any_batch_are_the_same(
    model: Path,
    tmp_path: Path,
    p2pkit: Call,
) -> None:
    pixels = picture(130, 150, 0)
    file = save(tmp_path / "a.png", pixels)  # which can only be read whole
    expected = load_model(model, "cpu")(pixels, seed=2, tile=64, overlap=20)
    for batch_size in (1, 5):
        out = tmp_path / str(batch_size)
        arguments = ("--tile", 64, "--overlap", 20, "--batch-size", batch_size, "--seed", 2, "--device", "cpu")
        assert p2pkit("translate", model, file, "--out", out, *arguments).code == 0
        with tifffile.TiffFile(out / "a.tif") as written:
            assert written.pages[0].is_tiled
            assert np.array_equal(written.asarray(), expected)
    assert np.array_equal(np.asarray(load_model(model, "cpu")(file, seed=2, tile=64, overlap=20)), expected)


def test_an_image_within_a_tile_is_translated_as_without(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    for size in ((1, 1), (7, 30), (64, 64)):
        pixels = picture(*size, 0)
        assert np.array_equal(load_model(model, "cpu")(pixels, tile=64), load_model(model, "cpu")(pixels))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tile", 100), "the next is 112"),
        (("--tile", 64, "--overlap", 40), "between 0 and 32"),
        (("--overlap", 4), "--tile"),
    ],
)
def test_tiles_that_cannot_be_are_refused(
    arguments: tuple[Any, ...],
    said: str,
    model: Path,
    tmp_path: Path,
    p2pkit: Call,
) -> None:
    file = save(tmp_path / "a.png", picture(20, 20, 0))
    outcome = p2pkit("translate", model, file, "--out", tmp_path / "o", *arguments)
    assert outcome.code == 2 and said in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_regions_are_what_the_file_holds(dtype: str, channels: int, tmp_path: Path) -> None:
    pixels = (np.random.default_rng(0).random((150, 90, channels)) * 200).astype(dtype)
    files = [tmp_path / "a.npy"]
    np.save(files[0], pixels)
    layouts = itertools.product((None, "zlib"), (None, (64, 32)), ("contig", "separate"), "<>")
    for number, (compression, tile, planes, order) in enumerate(layouts):
        stored = pixels.transpose(2, 0, 1) if planes == "separate" and channels > 1 else pixels.squeeze()
        options = {"rowsperstrip": 17} if tile is None and compression else {}
        colour = "rgb" if channels == 3 else "minisblack"
        files.append(saved_tiff(
            tmp_path / f"{number}.tif", stored, compression=compression, tile=tile, byteorder=order,
            planarconfig=planes if channels > 1 else None, photometric=colour, **options,
        ))  # fmt: skip
    for file in files:
        regions = open_regions(file)
        assert not isinstance(regions, ArrayRegions)
        assert regions.shape == pixels.shape
        found = regions.read(slice(20, 141), slice(10, 90))
        assert found.dtype == pixels.dtype and np.array_equal(found, pixels[20:141, 10:90])


def test_a_tiff_that_needs_more_than_unpacking_is_read_whole(tmp_path: Path) -> None:
    Image.fromarray(picture(40, 30, 0)).quantize(16).save(tmp_path / "palette.tif")
    assert open_regions(tmp_path / "palette.tif").shape == (40, 30, 3)


def test_a_tiff_damaged_in_the_middle_is_named_and_leaves_nothing(
    model: Path,
    tmp_path: Path,
    p2pkit: Call,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    file = saved_tiff(tmp_path / "a.tif", pixels, tile=(64, 64), compression="zlib", photometric="rgb")
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
    file.write_bytes(content)
    good = saved_tiff(tmp_path / "b.tif", pixels, photometric="rgb")
    outcome = p2pkit("translate", model, file, good, "--out", tmp_path / "o", "--tile", 64)
    assert outcome.code == 2 and "a.tif: the image cannot be read" in outcome.err
    assert [file.name for file in (tmp_path / "o").glob("[a-z]*")] == ["b.tif"]


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint16", 1), ("float32", 5)])
def test_regions_become_a_whole_file(dtype: str, channels: int, tmp_path: Path) -> None:
    pixels = (np.random.default_rng(0).random((300, 270, channels)) * 200).astype(dtype)
    for name in ("a.tif", "a.npy"):
        with written_in_regions(tmp_path / name, pixels.shape, pixels.dtype) as sink:
            for top, left in itertools.product(range(0, 300, 93), range(0, 270, 111)):
                sink.write(top, left, pixels[top : top + 93, left : left + 111])
            assert not (tmp_path / name).exists()
        found = tifffile.imread(tmp_path / name) if name == "a.tif" else np.load(tmp_path / name)
        assert found.dtype == pixels.dtype and np.array_equal(found.reshape(pixels.shape), pixels)
