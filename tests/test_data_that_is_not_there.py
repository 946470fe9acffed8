"""Recipes whose data is not there, Cityscapes in its own folders, and contact sheets of what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.downloads.download import without_downloads
from p2pkit.errors import DataError, MissingData
from tests.conftest import REPOSITORY, Call, picture, save

COLOURS = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)], np.uint8)


def no_data(recipe: Path, name: str, more: str = "") -> Path:
    """The small recipe with data that is not there."""
    text = recipe.read_text()
    data = f'[data]\nname = "{name}"\n{more}\n'
    recipe.write_text(text[: text.index("[data]")] + data + text[text.index("[loader]") :])
    return recipe


def test_check_passes_without_data_only_where_it_is_said_how_to_get_it(
    recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    file = no_data(recipe, "paired_folders", f'root = "{tmp_path}/none"')
    unknown = p2pkit("check", file)
    assert unknown.code == 2 and f"{tmp_path}/none: there is no such folder; check data.root" in unknown.err
    said = ("--set", "data.obtain=Ask the museum for the scans")
    known = p2pkit("check", file, *said)
    assert known.code == 0, known.err
    assert "NOT THERE" in known.out and "Ask the museum for the scans" in " ".join(known.out.split())
    assert "receptive field: 16 pixels" in known.out
    for command in (("run", file, "--out", tmp_path / "run"), ("data", "check", file)):
        outcome = p2pkit(*command, *said)
        assert outcome.code == 2 and "there is no such folder" in outcome.err and "Ask the museum" in outcome.err
    assert not (tmp_path / "run").exists()


def test_check_still_finds_what_else_is_wrong(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    file = no_data(recipe, "paired_folders", f'root = "{tmp_path}/none"\nobtain = "Ask"')
    file.write_text(file.read_text().replace("load_size = 20\ncrop_size = 16", "load_size = 20\ncrop_size = 18"))
    outcome = p2pkit("check", file)
    assert outcome.code == 2 and "18" in outcome.err and "crop_size" in outcome.err


RECIPES = [f"p2pkit:{file.stem}" for file in sorted((REPOSITORY / "recipes").glob("*.toml"))]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_how_to_get_its_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with without_downloads():
        try:
            library.load_data(name)
        except MissingData as error:
            assert error.remedy, error  # without which p2pkit check does not pass


@pytest.mark.parametrize(
    ("name", "more", "channels"),
    [
        ("edges_from_targets", 'of = {name = "photos", root = "none"}', 1),
        ("holes_from_targets", 'of = {name = "photos", root = "none"}', 3),
        ("holes_from_targets", 'of = {name = "photos", root = "none"}\nshow_holes = true', 4),
        ("edges_from_targets", 'of = {name = "maps"}', 1),
        ("cityscapes", 'labels = "labelIds"', 1),
        ("cityscapes", 'labels = "labelIds"\ndirection = "AtoB"', 3),
    ],
)
def test_networks_are_those_of_the_data_as_it_would_be(
    name: str, more: str, channels: int, recipe: Path, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = p2pkit("check", no_data(recipe, name, f'{more}\nobtain = "Ask"'), "--json").json
    assert found["networks"]["generator"]["source"] == [channels, 16, 16]
    assert found["data"]["name"] == name and "Ask" in found["data"]["remedy"]
    assert ("check data.of.root" in found["data"]["missing"]) == ('"none"' in more)


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Two streets to train on and one val, 40x80, label maps in colours with alpha and as numbers."""
    root = tmp_path / "cityscapes"
    for split, count in (("train", 2), ("val", 1)):
        for index in range(count):
            numbers = np.arange(40 * 80).reshape(40, 80) // 20 % 3
            numbers = numbers.astype(np.uint8)
            opaque = np.dstack([COLOURS[numbers], np.full_like(numbers, 255)])
            name = f"{split}/ulm/ulm_{index:06}_000019"
            save(root / "leftImg8bit" / f"{name}_leftImg8bit.png", picture(40, 80, index))
            save(root / "gtFine" / f"{name}_gtFine_color.png", opaque)
            save(root / "gtFine" / f"{name}_gtFine_labelIds.png", numbers)
    return root


def test_cityscapes_has_label_maps_in_colours_either_way_round(streets: Path) -> None:
    forth = library.create("datasets", "cityscapes", split="train", root=streets)
    back = library.create("datasets", "cityscapes", split="train", root=streets, direction="AtoB")
    assert (len(forth), len(library.create("datasets", "cityscapes", split="val", root=streets))) == (2, 1)
    assert np.array_equal(forth[1].target, picture(40, 80, 1)) and np.array_equal(back[1].source, picture(40, 80, 1))
    assert np.array_equal(forth[1].source, back[1].target)
    assert {*map(tuple, forth[1].source.reshape(-1, 3).tolist())} == {*map(tuple, COLOURS.tolist())}
    assert forth[1].key == "train/ulm/ulm_000001_000019_gtFine_color.png"
    assert back[1].key == "train/ulm/ulm_000001_000019_leftImg8bit.png"
    numbers = library.create("datasets", "cityscapes", split="train", root=streets, labels="labelIds")[0].source
    assert np.array_equal(COLOURS[numbers[:, :, 0]], forth[0].source)


def test_cityscapes_is_made_as_small_as_the_papers(streets: Path) -> None:
    small = library.create("datasets", "cityscapes", split="train", root=streets, size=32)
    assert small[0].header == small.header(0) and small.header(0)[:2] == ((32, 32, 3), (32, 32, 3))
    assert {*map(tuple, small[0].source.reshape(-1, 3).tolist())} == {*map(tuple, COLOURS.tolist())}
    photo = Image.fromarray(picture(40, 80, 0)).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(small[0].target, np.asarray(photo))
    whole = library.create("datasets", "cityscapes", split="train", root=streets)
    assert small.fingerprint() != whole.fingerprint()


def test_half_of_cityscapes_is_an_error_and_none_of_it_is_missing(streets: Path) -> None:
    shutil.rmtree(streets / "gtFine")
    with pytest.raises(DataError, match=r"gtFine_trainvaltest\.zip") as raised:
        library.create("datasets", "cityscapes", split="train", root=streets)
    assert not isinstance(raised.value, MissingData)
    shutil.rmtree(streets)
    with pytest.raises(MissingData, match=r"register at .* leftImg8bit_trainvaltest.zip"):
        library.create("datasets", "cityscapes", split="train", root=streets)


def columns(file: Path) -> tuple[int, int]:
    """How wide and high a picture is, in images of 128 pixels with their gaps and lines."""
    width, height = Image.open(file).size
    return width // 136, (height - 44) // 154


def test_a_contact_sheet_shows_pairs_as_the_networks_see_them(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    sheet = tmp_path / "sheet.png"
    outcome = p2pkit("data", "check", recipe, "--sheet", sheet)
    assert outcome.code == 0 and str(sheet) in outcome.err
    assert columns(sheet) == (4, 6), "six pairs, in two epochs, since crops and flips differ"
    outcome = p2pkit("data", "check", recipe, "--sheet", "sheet.jpg")
    assert outcome.code == 2 and "ends in .png" in outcome.err and "reading" not in outcome.err
    plain = tmp_path / "plain.png"
    still = {"transform.crop_size": 20, "transform.flip": False}
    library.contact_sheet(recipe, plain, still, samples=3)
    # twenty pixels become 140; the title is wider than a source and a target
    assert Image.open(plain).height == 44 + 3 * (140 + 26) and Image.open(plain).width < 4 * 148
    data = library.load_data(recipe)
    shown = np.asarray(Image.open(plain))[44 : 44 + 120, 8 : 8 + 120].astype(float)
    stored = np.asarray(Image.fromarray(data.train[0].source).resize((20, 20), Image.Resampling.BICUBIC), float)
    close = np.repeat(np.repeat(stored, 7, 0), 7, 1)[:120, :120]
    assert np.abs(shown - close).mean() < 12


def test_a_contact_sheet_passes_over_what_cannot_be_used(
    pairs: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    next((pairs / "train").iterdir()).write_bytes(b"no image")
    sheet = tmp_path / "sheet.png"
    outcome = p2pkit("data", "check", recipe, "--sheet", sheet)
    assert outcome.code == 2 and "1 of" in outcome.err
    assert sheet.is_file()
    assert p2pkit("data", "check", recipe, "--sheet", tmp_path / "none" / "sheet.png").code == 2
