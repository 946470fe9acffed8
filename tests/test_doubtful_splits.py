"""No set is trained on that is not the train set, whatever its folders are called and wherever its files are linked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import p2pkit as library
from p2pkit.data.samples import Samples
from tests.conftest import Call, picture, save
from tests.test_which_files_count import beside


@pytest.mark.parametrize(
    ("trained", "other"),
    [("train2017", "val2017"), ("train_images", "test_images"), ("Training Set", "Test Set"), ("trn", "tst"),
     ("trainset", "testset"), ("imagesTr", "imagesTs"), ("TrainData", "EvalData"), ("01-train", "02-holdout"),
     ("maps_train", "maps_test"), ("shoes-train-v2", "shoes-dev-v2"), ("more", "test images")],
)  # fmt: skip
def test_names_much_like_those_of_splits_are_refused(
    trained: str, other: str, pairs: Path, recipe: Path, p2pkit: Call
) -> None:
    (pairs / "train").rename(pairs / trained)
    # beside nothing that is like another set it can only be what to train on
    shutil.move(pairs / "test", pairs.parent / "test")
    assert sources(library.load_data(recipe).train) == {picture(24, 24, seed).tobytes() for seed in range(6)}
    shutil.move(pairs.parent / "test", pairs / other)
    outcome = p2pkit("check", recipe)
    assert outcome.code == 2 and f"{pairs / other} is called like the " in outcome.err, outcome.err
    assert "rename the folders of the sets to train, val and test" in outcome.err and len(outcome.said) == 1
    # what it says is of use
    data = library.load_data(recipe, {"data.root": str(pairs / trained)})
    assert sources(data.train) == {picture(24, 24, seed).tobytes() for seed in range(6)}
    # sides, likewise
    for side in ("source", "target"):
        shutil.copytree(pairs, pairs.parent / "sides" / side)
    for name in ("paired_folders", "unpaired_folders"):
        outcome = p2pkit("check", recipe, "--set", f'data={{name = "{name}", root = "{pairs.parent}/sides"}}')
        assert outcome.code == 2 and f"sides/source/{other} is called like the " in outcome.err


def test_names_that_have_a_split_in_them_are_classes_too(pairs: Path, recipe: Path) -> None:
    shutil.rmtree(pairs / "test")
    for number, name in enumerate(("training_shoes", "test_tubes", "valleys", "trains_and_buses", "contest", "latest")):
        beside(pairs / "train" / name / "0.png", 30 + number)
    (pairs / "train").rename(pairs / "shapes")
    assert len(library.load_data(recipe).train) == 12
    # vehicles of a test set
    (pairs / "shapes").rename(pairs / "train")
    for number, name in enumerate(("train", "bus")):
        beside(pairs / "test" / name / "0.png", 40 + number)
    data = library.load_data(recipe)
    assert (len(data.train), sources(data.test)) == (12, {picture(24, 24, seed).tobytes() for seed in (40, 41)})


@pytest.mark.parametrize("layout", ["train", "train/{side}", "{side}/train"])
def test_splits_within_a_split_are_refused(layout: str, tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    name = "side_by_side" if layout == "train" else "paired_folders"
    for side in ("source", "target"):
        for split in ("train", "val", "test"):
            beside(tmp_path / "sets" / layout.format(side=side) / split / "0.png", 1)
        beside(tmp_path / "sets" / layout.format(side=side).replace("train", "test") / "0.png", 2)
    settings = ("--set", f'data={{name = "{name}", root = "{tmp_path}/sets"}}')
    outcome = p2pkit("check", recipe, *settings)
    assert outcome.code == 2 and "this is taken for the train set, but " in outcome.err, outcome.err
    for side in ("source", "target"):
        for split in ("val", "test"):
            shutil.rmtree(tmp_path / "sets" / layout.format(side=side) / split, ignore_errors=True)
    outcome = p2pkit(
        "check", recipe, *settings, "--set", "loader.batch_size=1"
    )  # what is only called so once more is the train set's
    assert outcome.code == 0 and "1 training pair, 0 val pairs, 1 test pair" in outcome.out


@pytest.mark.parametrize("link", ["folder", "file", "hard link"])
@pytest.mark.parametrize("name", ["side_by_side", "paired_folders", "unpaired_folders"])
def test_links_between_sets_are_refused(link: str, name: str, tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    sides = ("",) if name == "side_by_side" else ("source", "target")
    root = tmp_path / "sets"
    for seed, split in enumerate(("train", "test")):
        for side in sides:
            for index in range(2):
                beside(root / split / side / f"{index}.png", 10 * seed + index)
    chosen = {"data": {"name": name, "root": str(root)}}
    assert len(library.load_data(recipe, chosen).train) == 2
    for side in sides:
        more, test = root / "train" / side / "more", root / "test" / side
        if link == "folder":
            more.symlink_to(test)
        elif link == "file":
            more.with_suffix(".png").symlink_to(test / "1.png")
        else:
            more.with_suffix(".png").hardlink_to(test / "1.png")
    outcome = p2pkit("check", recipe, "--set", f'data={{name = "{name}", root = "{root}"}}')
    shared = 2 if link == "folder" else 1
    assert outcome.code == 2 and f"{shared} sources of the test set are in the train set too (" in outcome.err
    assert "Traceback" not in outcome.err and len(outcome.said) == 1


def test_a_val_set_that_is_the_test_set_and_targets_in_common_are_stated(tmp_path: Path, recipe: Path) -> None:
    root = tmp_path / "sets"
    for seed, split in enumerate(("train", "test")):
        for side in ("source", "target"):
            save(root / split / side / "0.png", picture(24, 24, 10 * seed + len(side)))
    (root / "val").symlink_to(root / "test")
    (root / "test" / "target" / "0.png").unlink()
    (root / "test" / "target" / "0.png").symlink_to(root / "train" / "target" / "0.png")
    notices = library.load_data(recipe, {"data": {"name": "paired_folders", "root": str(root)}}).notices
    for expected in ("1 sources of the test set are in the val set too", "1 targets of the test set are in the train"):
        assert any(expected in notice for notice in notices)


def test_folders_named_in_full_hold_one_set(tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    for side, seed in (("a", 0), ("b", 40)):
        for index in range(2):
            save(tmp_path / side / f"{index}.png", picture(24, 24, seed + index))
    chosen = {"name": "paired_folders", "root": str(tmp_path), "source": f"{tmp_path}/a", "target": f"{tmp_path}/b"}
    data = library.load_data(recipe, {"data": chosen})
    assert [len(data.train), len(data.val), len(data.test), len(data.validation)] == [2, 0, 0, 0]
    assert sources(data.train) == {picture(24, 24, seed).tobytes() for seed in range(2)}
    measured = p2pkit("evaluate", tmp_path / "a", tmp_path / "b", "--metrics", "mae", "--json")
    assert measured.code == 0, measured.err
    expected = np.mean([np.abs(picture(24, 24, seed) / 255 - picture(24, 24, seed + 40) / 255) for seed in range(2)])
    assert measured.json["rows"]["outputs"]["mae"] == pytest.approx(expected, abs=1e-6)
    # and those that have sets in them have these sets
    for side, seed in (("a", 0), ("b", 40)):
        for split in ("train", "test"):
            save(tmp_path / side / split / "5.png", picture(24, 24, seed + 5 + (split == "test")))
    data = library.load_data(recipe, {"data": chosen})
    assert sources(data.train) == {picture(24, 24, 5).tobytes()} and sources(data.test) == {
        picture(24, 24, 6).tobytes()
    }
    outcome = p2pkit("evaluate", tmp_path / "a", tmp_path / "b", "--metrics", "mae")
    assert outcome.code == 2 and "it holds several sets (" in outcome.err


def sources(samples: Samples) -> set[bytes]:
    return {samples[index].source.tobytes() for index in range(len(samples))}
