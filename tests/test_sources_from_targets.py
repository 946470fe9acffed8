"""Sources made of the targets of any data set: edges, gray and holes; photos by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import skimage.feature
from PIL import Image
from scipy.ndimage import binary_dilation

import p2pkit as library
from p2pkit.errors import DataError, RecipeError
from p2pkit.images.channels import Taking
from p2pkit.images.edges import canny, luminance, slopes
from tests.conftest import Call, picture, save

DRAWN = {"name": "procedural_facades", "size": 48, "pairs": 3, "val_pairs": 2, "test_pairs": 0}


def drawn_facades() -> Any:
    parameters = {key: value for key, value in DRAWN.items() if key != "name"}
    return library.create("datasets", str(DRAWN["name"]), split="train", **parameters)


def made(name: str, split: str = "train", **parameters: Any) -> Any:
    return library.create("datasets", name, split=split, **{"of": DRAWN, **parameters})


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_edges_of_photographs_are_those_of_scikit_image(name: str) -> None:
    photo = np.asarray(Image.fromarray(getattr(skimage.data, name)()).resize((256, 256), Image.Resampling.BICUBIC))
    gray = luminance(photo, name)
    ours = canny(gray, 1.4, 0.04, 0.1)
    # its slopes are four times ours, and it puts an edge elsewhere by a pixel at most
    theirs = skimage.feature.canny(gray, 1.4, 0.16, 0.4)
    for one, other in ((ours, theirs), (theirs, ours)):
        assert (one & binary_dilation(other, np.ones((3, 3)))).sum() > 0.95 * one.sum()
    assert 0.02 < ours.mean() < 0.12


def test_a_step_is_one_line_where_it_is_and_its_slope_is_one() -> None:
    gray = np.zeros((20, 30))
    gray[:, 12:] = 1.0
    found = canny(gray, 1.4, 0.04, 0.1)
    assert found.sum(axis=1).tolist() == [1] * 20 and set(np.flatnonzero(found.any(axis=0))) <= {11, 12}
    down, right = slopes(gray, 0)
    assert not down.any() and right.max() == 1.0
    assert not canny(np.full((8, 8), 0.5), 1.4, 0.04, 0.1).any()


def test_a_weak_line_is_kept_where_it_goes_on_from_a_strong_one() -> None:
    fading = np.zeros((60, 40))
    fading[:, 20:] = np.linspace(0.8, 0.1, 60)[:, None]
    assert canny(fading, 1.0, 0.02, 0.2)[:, 15:25].any(axis=1)[1:-1].all()
    assert not canny(np.minimum(fading, 0.15), 1.0, 0.02, 0.2).any()


@pytest.mark.parametrize(("detector", "values"), [("canny", {0, 255}), ("sobel", set(range(256)))])
def test_edges_are_dark_on_white_where_the_target_has_them(detector: str, values: set[int]) -> None:
    plain, edges = drawn_facades(), made("edges_from_targets", detector=detector)
    source, target = edges[1].source, edges[1].target
    assert np.array_equal(target, plain[1].target) and source.shape == (48, 48, 1) and source.dtype == np.uint8
    assert set(np.unique(source).tolist()) <= values and source.max() > 250 and source.min() < 200
    steep = np.hypot(*slopes(luminance(target, ""), 0))
    dark = source[:, :, 0] < np.median(source) if detector == "sobel" else source[:, :, 0] == 0
    assert steep[dark].mean() > 2 * steep[~dark].mean()
    assert edges[1].key == plain[1].key and (len(edges), len(made("edges_from_targets", "val"))) == (3, 2)


def test_gray_is_what_a_recipe_takes_as_gray_of_any_depth(tmp_path: Path) -> None:
    deep = (picture(10, 12, 3).astype(np.uint16) * 200)[:, :, 0]
    save(tmp_path / "train" / "0.png", picture(10, 12, 2))
    Image.fromarray(deep).save(tmp_path / "train" / "1.png")
    gray = made("gray_from_targets", of={"name": "photos", "root": str(tmp_path)})
    assert np.array_equal(gray[0].source, Taking("gray").of(picture(10, 12, 2), ""))
    assert np.array_equal(gray[1].source[:, :, 0], deep) and gray[1].source.dtype == np.uint16


def test_a_hole_in_the_middle_is_the_papers() -> None:
    holes = made("holes_from_targets", place="centre")
    source, target = holes[0].source, holes[0].target
    assert (source[12:36, 12:36] == 255).all()
    inside = np.zeros((48, 48), bool)
    inside[12:36, 12:36] = True
    assert np.array_equal(source[~inside], target[~inside])


def test_holes_at_random_are_drawn_by_seed_epoch_and_index() -> None:
    data = {"name": "holes_from_targets", "of": DRAWN, "holes": 2, "smallest": 0.2, "largest": 0.4, "show_holes": True}

    def drawn(seed: int, epoch: int, index: int) -> Any:
        samples = library.load_data({"data": data, "run": {"seed": seed}}).train
        return samples.read(index, epoch)

    sample = drawn(0, 0, 1)
    hole = sample.source["holes"][:, :, 0] == 255
    assert 0.04 < hole.mean() < 0.32 and set(np.unique(sample.source["holes"])) == {0, 255}
    image, target = sample.source["image"], sample.target
    assert (image[hole] == 255).all() and np.array_equal(image[~hole], target[~hole])
    for other, same in (((0, 0, 1), True), ((0, 1, 1), False), ((1, 0, 1), False), ((0, 0, 2), False)):
        assert np.array_equal(drawn(*other).source["holes"], sample.source["holes"]) is same


def test_of_any_data_set_whatever_it_gives_and_which_sets_it_has(pairs: Path) -> None:
    halves = made("edges_from_targets", of={"name": "side_by_side", "root": str(pairs)})
    assert halves.source_files == halves.target_files and len(halves.source_files) == len(halves)
    assert halves.header(0) == halves[0].header and not hasattr(halves, "stored_as")
    nested = made("gray_from_targets", of={"name": "edges_from_targets", "of": DRAWN})
    assert np.array_equal(nested[0].target, made("edges_from_targets")[0].target)
    assert len(made("gray_from_targets", "test", of=DRAWN)) == 0
    before = made("edges_from_targets").fingerprint()
    assert made("edges_from_targets", sigma=2.0).fingerprint() != before == made("edges_from_targets").fingerprint()
    assert made("edges_from_targets", of={**DRAWN, "seed": 1}).fingerprint() != before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"of": {"root": "x"}}, "data.of: expected the table of a data set"),
        ({"of": {"name": "photo", "root": "x"}}, "data.of: datasets: nothing is called 'photo'; did you mean 'photos'"),
        ({"of": {**DRAWN, "split": "val"}}, "data.of.split: a run takes each split"),
        ({"of": {"name": "photos"}}, "data.of: photos.root: missing"),
        ({"of": {**DRAWN, "pears": 3}}, "pears: unknown key"),
        ({"of": {"name": "unpaired_folders", "root": "{root}"}}, "is unpaired; give its targets by themselves"),
        ({"low": 0.5, "high": 0.1}, "data.low is 0.5, above data.high"),
    ],
)
def test_what_cannot_be_is_refused(parameters: dict[str, Any], message: str, tmp_path: Path) -> None:
    for side in ("source", "target"):
        save(tmp_path / "train" / side / "0.png", picture(12, 12, 0))
    if "root" in parameters.get("of", {}):
        parameters["of"]["root"] = str(tmp_path)
    with pytest.raises(library.errors.P2PKitError, match=message):
        made("edges_from_targets", **parameters)


def test_photos_are_a_data_set_of_any_folder(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / "flat" / f"{index}.png", picture(12, 14, index))
        save(tmp_path / "split" / "train" / "sub" / f"{index}.png", picture(12, 14, index))
    save(tmp_path / "split" / "val" / "9.png", picture(12, 14, 9))
    flat, split = (
        library.create("datasets", "photos", split="train", root=tmp_path / name) for name in ("flat", "split")
    )
    assert [flat[1].key, split[1].key] == ["1.png", "train/sub/1.png"]
    assert np.array_equal(flat[1].source, picture(12, 14, 1)) and np.array_equal(flat[1].source, flat[1].target)
    assert len(library.create("datasets", "photos", split="val", root=tmp_path / "flat")) == 0
    assert len(library.create("datasets", "photos", split="val", root=tmp_path / "split")) == 1
    with pytest.raises(DataError, match="there is no such folder"):
        library.create("datasets", "photos", split="train", root=tmp_path / "none")


def test_a_folder_of_photos_trains_and_resumes_from_anywhere(
    tmp_path: Path, recipe: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(6):
        save(tmp_path / "photos" / f"{index}.png", picture(24, 24, index))
    monkeypatch.chdir(tmp_path)
    text = recipe.read_text()
    data = '[data]\nname = "edges_from_targets"\nof = {name = "photos", root = "photos"}\nsplit = 0.3\n'
    recipe.write_text(text[: text.index("[data]")] + data + text[text.index("[loader]") :])
    assert p2pkit("run", recipe, "--out", tmp_path / "run", "--set", "train.max_steps=2").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resumed = p2pkit("run", "--resume", tmp_path / "run", "--set", "train.max_steps=3")
    assert resumed.code == 0, resumed.err
    translated = p2pkit("translate", tmp_path / "run", "--split", "val", "--out", "translated")
    assert translated.code == 0 and len(list(Path("translated").glob("*.png"))) >= 1, translated.err


def test_a_split_that_a_data_set_does_not_have_is_empty() -> None:
    assert len(library.create("datasets", "cityscapes", split="test")) == 0
    with pytest.raises(RecipeError):
        made("holes_from_targets", smallest=0.6, largest=0.5)
