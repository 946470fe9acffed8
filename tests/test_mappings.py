"""Ranges of each channel and logarithmic ones: from stored values to [-1, 1], and from outputs back to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import p2pkit as library
from p2pkit.images.pixels import Reading, denormalize, normalize
from tests.conftest import Call, picture, train
from tests.scenes import SIDE
from tests.test_two_sources import arguments

BANDS = ((0, 255), (0, 1000), (-5, 5))
RECIPE = 'data={{name = "paired_folders", root = "{root}"}}'
LOGARITHMIC = ("target.range=[0.01, 100]", 'target.mapping="logarithmic"')


def bands(seed: int) -> Any:
    """Three channels of values that have little in common, float32 [SIDE, SIDE, 3]."""
    shares = picture(SIDE, SIDE, seed).astype(np.float32) / 255
    low, high = np.array(BANDS, np.float32).T
    return low + shares * (high - low)


def rain(seed: int) -> Any:
    """Values of four orders of magnitude, float32 [SIDE, SIDE]."""
    return (0.01 * 10 ** (4.0 * picture(SIDE, SIDE, 20 + seed, 1)[:, :, 0] / 255)).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pairs of bands and rain."""
    for split, seeds in (("train", range(4)), ("val", (4, 5))):
        for seed in seeds:
            for side, values in (("source", bands(seed)), ("target", rain(seed))):
                file = tmp_path / "data" / split / side / f"{seed}.tif"
                file.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(file, values, photometric="rgb" if values.ndim == 3 else "minisblack")
    return tmp_path / "data"


def settings(root: Path, *more: str) -> list[str]:
    return [RECIPE.format(root=root), "transform.load_size=24", *more]


@pytest.mark.parametrize("limits", [((0.01, 100.0),) * 3, ((1.0, 10.0), (0.1, 1000.0), (2.0, 3.0))])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_values_come_back(limits: Any, logarithmic: bool) -> None:
    low, high = np.array(limits).T
    pixels = low + np.random.default_rng(0).random((20, 30, 3)) * (high - low)
    reading = Reading(ranges=limits if limits[0] != limits[1] else (), logarithmic=logarithmic)
    span = float(low.min()), float(high.max())
    tensor = normalize(pixels, "it", span, reading)
    held, bottom, top = (np.log(each) if logarithmic else each for each in (pixels, low, high))
    expected = (held - bottom) / (top - bottom) * 2 - 1
    assert np.abs(tensor.permute(1, 2, 0).numpy() - expected).max() < 1e-6
    back = denormalize(tensor, np.dtype(np.float64), span, reading)
    assert np.abs(back - pixels).max() < 1e-4 * high.max()


def test_a_range_of_each_channel(root: Path, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    given = f"source.range={[list(each) for each in BANDS]}"
    run = train(p2pkit, recipe, tmp_path / "run", *settings(root, given, "target.range=[0, 100]"))
    translate = library.load_model(run, "cpu")
    seen = translate.to_tensor(bands(1), "it")
    assert torch.allclose(
        seen, torch.from_numpy(picture(SIDE, SIDE, 1) / 127.5 - 1).permute(2, 0, 1).float(), atol=1e-5
    )
    outcome = p2pkit("translate", run, root / "val/source/4.tif", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    made = tifffile.imread(tmp_path / "out" / "4.tif")
    assert np.allclose(made, translate(bands(4))[:, :, 0]) and made.dtype == np.float32
    two = "source.range=[[0, 255], [0, 1000]]"
    outcome = p2pkit("check", recipe, *arguments(*settings(root, two, "target.range=[0, 100]")))
    assert outcome.code == 2 and "it has 3 channels, and there are ranges for 2" in outcome.err, outcome.err


def test_logarithmic_targets_come_back(root: Path, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", *settings(root, "source.range=[-5, 1000]", *LOGARITHMIC))
    translate = library.load_model(run, "cpu")
    outcome = p2pkit("translate", run, root / "val/source", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    errors = []
    for seed in (4, 5):
        output = translate(translate.to_tensor(bands(seed), "it"))[0].double().numpy()
        made = tifffile.imread(tmp_path / "out" / f"{seed}.tif")
        assert np.allclose(made, 0.01 * 10 ** (2 * (output + 1)), rtol=1e-4)
        errors.append(np.abs(np.log(made) - np.log(rain(seed))).mean() / np.log(10**4))
    evaluated = p2pkit("evaluate", run, "--split", "val", "--json").json
    assert evaluated["rows"]["model"]["mae"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert "by their logarithms" in evaluated["values"]
    about = p2pkit("inspect", run, "--json").json
    assert about["target_range"] == [0.01, 100] and about["target_reading"]["mapping"] == "logarithmic"
    outcome = p2pkit("check", recipe, *arguments(*settings(root, "target.range=[0, 100]", LOGARITHMIC[1])))
    assert outcome.code == 2 and "logarithmic" in outcome.err and "above 0" in outcome.err, outcome.err


def test_little_of_a_logarithmic_range_is_little_of_its_logarithms(root: Path, recipe: Path, p2pkit: Call) -> None:
    for high, odd in ((1e6, False), (1e30, True)):
        given = settings(root, "source.range=[-5, 1000]", f"target.range=[0.01, {high:g}]", LOGARITHMIC[1])
        outcome = p2pkit("check", recipe, *arguments(*given))
        assert ("NOTICE: targets hold values" in outcome.out) is odd, outcome.out
    few = ["source.range=[-5, 1000]", "target.range=[0.01, 1e6]"]
    assert "NOTICE: targets hold values" in p2pkit("check", recipe, *arguments(*settings(root, *few))).out
