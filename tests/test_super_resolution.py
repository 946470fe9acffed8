"""Targets of a whole multiple of the size: in networks, inference, tiles, exports and at all sizes of translation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tifffile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import p2pkit as library
from p2pkit.errors import ModelFileError, P2PKitError
from p2pkit.evaluation.baselines import MeanTarget, NearestSource, SourceItself
from p2pkit.export.noise import describe_noise, drawn_noise
from p2pkit.export.standalone import Standalone
from p2pkit.inference.files import FileOptions
from p2pkit.inference.model_file import write_model
from p2pkit.inference.model_header import ModelHeader, ResizeHeader
from p2pkit.inference.policy import Policy, infer
from p2pkit.inference.tiles import Tiling
from p2pkit.inference.translator import Translator
from p2pkit.networks.latent import SpatialNoise
from p2pkit.networks.layers import enlarging_end
from p2pkit.training.sample_grids import GAP, LINE, TOP, Row, sample_grid
from tests.conftest import Call, picture, save
from tests.small_components import SMALL

GENERATORS = library.components("generators")
GEOGRAPHIC = 33550
"""The tag of GeoTIFF's pixel scale."""


def made(name: str, scale: int, **parameters: Any) -> Any:
    """A generator of three channels with weights that let what is small show."""
    channels = {"source_channels": 3, "target_channels": 3}
    network = library.create("generators", name, **channels, scale=scale, **parameters)
    for value in network.parameters():
        if value.ndim > 1:
            nn.init.normal_(value, std=0.3, generator=torch.Generator().manual_seed(value.numel()))
    return network


def header(scale: int, generator: str = "given", parameters: dict[str, Any] | None = None, **more: Any) -> ModelHeader:
    return ModelHeader(
        generator=generator, parameters=parameters or {}, distribution="p2pkit", distribution_version="0",
        source_channels=3, target_channels=3, source_dtype="uint8", target_dtype="uint8", scale=scale, **more,
    )  # fmt: skip


def model_of(file: Path, name: str, scale: int, parameters: dict[str, Any], **more: Any) -> Path:
    """The model file of an untrained generator for targets ``scale`` times as large."""
    write_model(file, made(name, scale, **parameters).state_dict(), header(scale, name, parameters, **more))
    return file


def images(count: int, *size: int) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count)) * 2 - 1


class Grown(nn.Module):
    """Gives each pixel ``scale`` times ``scale`` times, for multiples of 8 alone."""

    size_multiple = smallest_size = 8

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.up, self.mix = nn.Upsample(scale_factor=scale), nn.Parameter(torch.zeros(()))

    def forward(self, source: Tensor) -> Tensor:
        output: Tensor = self.up(source) + self.mix
        return output


class Layers(nn.Module):
    """Sees five pixels to each side, and draws noise at the size of the source and of the target."""

    def __init__(self, noise: bool, scale: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        first, last = (nn.Conv2d(*ends, 3, padding=1, padding_mode="reflect") for ends in ((3, 8), (8, 3)))
        self.first, self.grain = nn.Sequential(first, nn.ReLU()), SpatialNoise(8)
        self.larger, self.drop = enlarging_end(8, 8, 8, scale), nn.Dropout(0.5)
        self.last, self.noise = nn.Sequential(last, nn.Tanh()), noise

    def forward(self, source: Tensor) -> Tensor:
        values = self.first(source)
        if self.noise:
            values = values + 0.1 * self.grain(values)
        values = self.larger(values)
        if self.noise:
            values = self.drop(values) + 0.1 * self.grain(values)
        output: Tensor = self.last(values)
        return output


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_enlarges_by_any_whole_scale(name: str, scale: int) -> None:
    network, source = made(name, scale, **SMALL["generators", name]), images(2, 32, 64)
    assert network(source).shape == (2, 3, scale * 32, scale * 64)
    for size in ((1, 1), (33, 47)):
        found = infer(network, images(1, *size), Policy(), [1])
        assert found.shape == (1, 3, scale * size[0], scale * size[1]) and found.isfinite().all()
    added = sum(isinstance(module, nn.Upsample) for module in network.modules())
    assert added == {1: 0, 2: 1, 3: 1, 4: 2, 6: 2}[scale]


@pytest.mark.parametrize("name", GENERATORS)
def test_at_scale_1_a_generator_is_what_it_is_without_a_scale(name: str) -> None:
    networks = []
    for scale in ({}, {"scale": 1}):
        torch.manual_seed(3)
        channels = {"source_channels": 3, "target_channels": 2}
        networks.append(library.create("generators", name, **channels, **scale, **SMALL["generators", name]))
        networks[-1].drawn = torch.rand(1)
    first, second = (network.state_dict() for network in networks)
    assert list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)
    assert networks[0].drawn.equal(networks[1].drawn)


@pytest.mark.parametrize("scale", [2, 3, 6])
def test_what_is_even_stays_even(scale: int) -> None:
    torch.manual_seed(0)
    values = enlarging_end(4, 8, 3, scale)(torch.rand(1, 4, 1, 1).expand(-1, -1, 16, 16))
    assert values.shape == (1, 3, 16 * scale, 16 * scale)
    within = values[:, :, 4 * scale : -4 * scale, 4 * scale : -4 * scale]
    assert within.amax() > 0.01 and torch.allclose(within, within[:, :, :1, :1], atol=1e-6)  # no checkerboard


@pytest.mark.parametrize("size", [(8, 16), (13, 21), (1, 1), (3, 50)])
def test_what_was_padded_is_cropped_from_the_enlarged_output(size: tuple[int, int]) -> None:
    source = images(2, *size)
    found = infer(Grown(3), source, Policy(), [1, 2])
    assert torch.equal(found, source.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3))


@pytest.mark.parametrize(("scale", "given"), [(1.5, "24x36"), (0.5, "8x12")])
def test_outputs_of_a_part_of_the_size_are_refused(scale: float, given: str) -> None:
    with pytest.raises(P2PKitError, match=f"images of {given} for sources of 16x24 .height x width."):
        infer(Grown(scale), images(1, 12, 17), Policy(), [1])


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("scale", [2, 3])
def test_tiles_are_those_of_the_whole_output(scale: int, noise: bool) -> None:
    pixels = picture(150, 131, 0)
    translate = Translator(Layers(noise, scale).requires_grad_(False), header(scale), Policy())
    whole = translate(pixels, seed=3).astype(int)
    assert whole.shape == (150 * scale, 131 * scale, 3) and whole.std() > 5
    if noise:
        assert np.abs(whole - translate(pixels, seed=4)).mean() > 1
    for tile, overlap in ((64, 16), (100, 20), (70, 0)):
        found = translate(pixels, seed=3, tile=tile, overlap=overlap).astype(int)
        # what lies within the reach of zeros and reflection at a tile's border is blended away, or is not compared
        seen = np.abs(whole - found) if overlap else np.abs(whole - found)[: 60 * scale, : 60 * scale]
        assert found.shape == whole.shape and seen.max() <= 1


def test_files_in_tiles_have_no_seams_and_nothing_of_their_sources_place(tmp_path: Path, p2pkit: Call) -> None:
    model = model_of(tmp_path / "model.safetensors", "resnet", 2, {"blocks": 1, "width": 4, "norm": "none"})
    pixels, place = picture(288, 368, 0), (GEOGRAPHIC, 12, 3, (0.25, 0.25, 0.0), True)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=[place], metadata=None)
    command = ("translate", model, tmp_path / "a.tif", "--no-dropout", "--device", "cpu")
    outcomes = [
        p2pkit(*command, "--out", tmp_path / out, *more)
        for out, *more in (("whole",), ("tiles", "--tile", 128, "--overlap", 48))
    ]
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
        assert "NOTICE: outputs are 2 times as high and wide as sources" in " ".join(outcome.err.split())
    found = []
    for out in ("whole", "tiles"):
        with tifffile.TiffFile(tmp_path / out / "a.tif") as file:
            assert GEOGRAPHIC not in file.pages[0].tags
            found.append(file.asarray().astype(int))
    assert found[0].shape == found[1].shape == (576, 736, 3) and found[0].std() > 5
    # a pixel that one tile alone gives lies farther from its border than the network sees
    alone, tiling = np.zeros((288, 368), int), Tiling(128, 48)
    for row, column in itertools.product(tiling.along(288), tiling.along(368)):
        alone[row.start : row.start + 128, column.start : column.start + 128] += 1
    alone = (alone == 1).repeat(2, axis=0).repeat(2, axis=1)
    assert alone.mean() > 0.1 and np.abs(found[0] - found[1])[alone].max() <= 1
    for axis, side in ((0, 288), (1, 368)):
        spans = [span.enlarged(2) for span in tiling.along(side)]
        differences = np.abs(np.diff(found[1], axis=axis)).mean(axis=(1 - axis, 2))
        borders = {place - 1 for span in spans[1:] for place in (span.start, span.begin, span.begin + span.fade)}
        others = sorted(set(range(len(differences))) - borders)
        assert differences[sorted(borders)].mean() <= 1.1 * differences[others].mean()
    array = library.load_model(model, "cpu", dropout=False)(pixels, tile=128, overlap=48)
    assert np.array_equal(array, found[1])


@pytest.mark.parametrize("form", library.components("exporters"))
@pytest.mark.parametrize("name", GENERATORS)
def test_exports_enlarge_as_the_model_does(name: str, form: str, tmp_path: Path, p2pkit: Call) -> None:
    scale = 3 if name == "resnet" else 2
    model = model_of(tmp_path / "model.safetensors", name, scale, SMALL["generators", name])
    file = tmp_path / "exported"
    outcome = p2pkit("export", model, "--format", form, "--out", file)
    assert outcome.code == 0, outcome.err
    exporter, translate = library.create("exporters", form), library.load_model(model, "cpu", dropout=False)
    run = exporter.load(file)
    for size in ((16, 16), (33, 70), (7, 50)):
        source = images(2, *size)
        assert run(source).shape == (2, 3, scale * size[0], scale * size[1])
        assert torch.allclose(run(source), translate(source), rtol=0, atol=1e-4)
    extra = {"p2pkit": ""}
    if form == "onnx":
        extra = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    else:
        torch.export.load(file, extra_files=extra)
    assert json.loads(extra["p2pkit"])["scale"] == scale


def test_noise_of_larger_features_is_an_input_of_a_known_size() -> None:
    network, source = Layers(noise=True), images(1, 20, 30)
    drawn = drawn_noise(network, source, [5])
    described = [
        {name: each[name] for name in each if name.startswith("size")} for each in describe_noise(drawn, (20, 30))
    ]
    assert described == [{"size_divided_by": [1, 1]}, *[{"size_multiplied_by": [2, 2]}] * 2]
    standing = Standalone(network, Policy(), 2)
    found, expected = standing(source, *(one.values for one in drawn)), infer(network, source, Policy(), [5])
    assert torch.allclose(found, expected, atol=1e-5)
    assert (found - standing(source, *(torch.rand_like(one.values) for one in drawn))).abs().max() > 0.01


@pytest.fixture
def resized(tmp_path: Path) -> Path:
    """A model of sources that training resized to 16x16, for targets of 32x32."""
    resize = ResizeHeader(size=(16, 16))
    return model_of(tmp_path / "model.safetensors", "unet", 2, {"depth": 4, "width": 4}, resize=resize)


def test_outputs_have_twice_the_size_that_is_asked_for(resized: Path, tmp_path: Path, p2pkit: Call) -> None:
    translate, source = library.load_model(resized, "cpu"), picture(40, 48, 1)
    tensor = torch.from_numpy(source.transpose(2, 0, 1).copy()).float() / 127.5 - 1
    small = F.interpolate(tensor[None], (16, 16), mode="bicubic", antialias=True).clamp(-1, 1)
    output = translate(small)
    assert output.shape == (1, 3, 32, 32)
    back = F.interpolate(output, (80, 96), mode="bicubic", antialias=True).clamp(-1, 1)
    expected = {"source": back, "model": output, "native": translate(tensor[None])}
    place = (GEOGRAPHIC, 12, 3, (0.25, 0.25, 0.0), True)
    for name, pixels in (("a", source), ("b", picture(32, 32, 2))):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb", extratags=[place], metadata=None)
    for size, tensors in expected.items():
        pixels = np.rint((tensors[0].numpy().transpose(1, 2, 0) + 1) * 127.5).astype(int)
        assert np.abs(translate(source, size=size) - pixels).max() <= 1
        out = tmp_path / size
        outcome = p2pkit("translate", resized, tmp_path / "a.tif", tmp_path / "b.tif", "--out", out, "--size", size)
        assert outcome.code == 0, outcome.err
        with tifffile.TiffFile(out / "a.tif") as a, tifffile.TiffFile(out / "b.tif") as b:
            assert np.abs(a.asarray() - pixels).max() <= 1 and GEOGRAPHIC not in a.pages[0].tags
            # an output of the size of its source is where that is
            assert (GEOGRAPHIC in b.pages[0].tags) == (size == "model")
        said = " ".join(outcome.err.split())
        assert ("back to 2 times each source's size" in said) == (size == "source")
        assert ("stay at 2 times that size" in said) == (size == "model")
        assert ("NOTICE: outputs are 2 times as high and wide" in said) == (size != "model")


def test_python_gives_back_the_kind_that_it_is_given(resized: Path, tmp_path: Path) -> None:
    translate, file = library.load_model(resized, "cpu"), save(tmp_path / "a.png", picture(20, 30, 1))
    assert translate(file).size == (60, 40) and translate(file, tile=32).size == (60, 40)
    assert translate(torch.zeros(3, 20, 30)).shape == (3, 40, 60)
    report = translate.files([file], tmp_path / "o", FileOptions(samples=2))
    assert report.done == 1 and (tmp_path / "o" / "a_1.png").exists()


def test_data_of_another_scale_is_refused_by_evaluate(resized: Path, tmp_path: Path, p2pkit: Call) -> None:
    for seed in range(2):
        save(tmp_path / "small" / f"{seed}.png", picture(16, 16, seed))
        for scale in (1, 2, 3):
            save(tmp_path / str(scale) / f"{seed}.png", picture(16 * scale, 16 * scale, seed))
    for scale in (1, 2, 3):
        given = "--data", tmp_path / "small", "--data", tmp_path / str(scale)
        outcome = p2pkit("evaluate", resized, *given, "--metrics", "mae")
        found = f"targets are {scale} times as high and wide as its sources, outputs of the model 2 times"
        assert (outcome.code, found in outcome.err) == ((0, False) if scale == 2 else (2, True)), outcome.err


def test_a_model_says_its_scale(resized: Path, p2pkit: Call) -> None:
    assert "-> 3 of uint8 at 2 times the size, " in repr(library.load_model(resized, "cpu"))
    assert "scale: 2" in " ".join(p2pkit("inspect", resized).out.split())
    assert p2pkit("inspect", resized, "--json").json["scale"] == 2


def test_a_generator_that_does_not_enlarge_as_its_model_says_is_refused() -> None:
    translate = Translator(Layers(noise=False, scale=3), header(2, "layers"), Policy())
    with pytest.raises(ModelFileError, match="'layers' gives images of 30x60 where the model file says 20x40"):
        translate(picture(10, 20, 0))


def test_trivial_rows_have_the_size_of_targets() -> None:
    sources = [torch.full((1, 8, 12), level) for level in (-0.5, 0.5)]
    targets = [images(1, 16, 24)[0] * level for level in (0.5, 1.0)]
    mean, nearest = MeanTarget(2), NearestSource(targets.__getitem__, 2)
    for source, target in zip(sources, targets, strict=True):
        mean.add(source, target)
        nearest.add(source, target)
    torch.testing.assert_close(mean(sources[0][None])[0], (targets[0] + targets[1]) / 2)
    assert nearest(sources[1][None])[0].equal(targets[1])
    assert mean(torch.zeros(1, 1, 5, 5)).shape == nearest(torch.zeros(1, 1, 5, 5)).shape == (1, 3, 10, 10)
    source = images(1, 8, 12)
    bicubic = F.interpolate(source, (16, 24), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(SourceItself(3, 2)(source), bicubic)
    assert SourceItself(3, 2)(source[:, :1]).shape == (1, 3, 16, 24)


@pytest.mark.parametrize(
    ("size", "scale", "shown"),
    [((64, 64), 2, (128, 128)), ((20, 30), 2, (120, 180)), ((150, 100), 2, (256, 170)), ((30, 20), 3, (180, 120))],
)
def test_sources_are_shown_at_the_size_of_their_targets(
    size: tuple[int, int], scale: int, shown: tuple[int, int]
) -> None:
    source, target = -torch.ones(3, *size), torch.zeros(3, scale * size[0], scale * size[1])
    grid = sample_grid("", [Row("a", [source, target, target])])
    height, width = shown
    assert grid.shape == (TOP + height + LINE + GAP, GAP + 3 * (width + GAP), 3)
    for column, level in enumerate((0, 128, 128)):
        left = GAP + column * (width + GAP)
        assert np.abs(grid[TOP : TOP + height, left : left + width].astype(int) - level).max() <= 1


def test_a_source_is_enlarged_pixel_by_pixel_beside_its_target() -> None:
    levels = torch.randint(256, (3, 32, 48))
    grid = sample_grid("", [Row("a", [levels / 127.5 - 1, torch.zeros(3, 64, 96)])])[TOP : TOP + 128, GAP : GAP + 192]
    assert (grid == levels.byte().permute(1, 2, 0).numpy().repeat(4, axis=0).repeat(4, axis=1)).all()
