"""What a model file says that can be drawn for its sources: classes of label maps with their colours, or edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p2pkit import create, load_data
from p2pkit.data.drawings import drawing_of
from p2pkit.data.samples import Samples
from tests.conftest import Call, picture, recipe, save, train

__all__ = ["recipe"]
SMALL = ["train.max_steps=1", "metrics=[]", "validation.max_images=1"]


def drawings(p2pkit: Call, model: Path | str) -> Any:
    return json.loads(p2pkit("inspect", model, "--json").out)["drawings"]


def colours(drawing: Any) -> dict[str, list[float]]:
    return {each["name"]: each["values"] for each in drawing["classes"]}


def sources(root: Path, made: list[np.ndarray[Any, Any]], ending: str = "png") -> None:
    """Put each of ``made`` in the left half of a pair of the small data set."""
    for split, count in (("train", 6), ("test", 2)):
        for index in range(count):
            (root / split / f"{index}.png").unlink(missing_ok=True)
            pair = np.concatenate([made[index % len(made)], picture(*made[0].shape[:2], index)], axis=1)
            if ending == "jpg":
                Image.fromarray(pair).save(root / split / f"{index}.jpg", quality=90, subsampling=0)
            else:
                save(root / split / f"{index}.png", pair)


def label_map(first: tuple[int, int, int], second: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    image = np.full((64, 64, 3), first, np.uint8)
    image[11:48, 13:52] = second
    return image


def test_the_quickstarts_classes_have_their_names(p2pkit: Call) -> None:
    drawing = drawings(p2pkit, "p2pkit:quickstart")[""]
    assert drawing["kind"] == "labels" and colours(drawing)["window"] == [0, 85, 255]
    assert "window" in p2pkit("inspect", "p2pkit:quickstart").out


def test_a_run_on_drawn_facades_writes_them(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    data = 'data={name = "procedural_facades", size = 32, pairs = 2, val_pairs = 1, test_pairs = 0}'
    found = drawings(p2pkit, train(p2pkit, recipe, tmp_path / "run", data, *SMALL))
    assert len(found[""]["classes"]) == 12 and colours(found[""])["shop"] == [170, 0, 0]


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_classes_of_label_maps_are_their_colours(
    ending: str, p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path
) -> None:
    sources(pairs, [label_map((0, 0, 200), (200, 0, 0)), label_map((0, 0, 200), (0, 200, 0))], ending)
    drawing = drawings(p2pkit, train(p2pkit, recipe, tmp_path / "run", *SMALL))[""]
    assert drawing["kind"] == "labels"
    wanted = np.array([[0, 0, 200], [0, 200, 0], [200, 0, 0]])
    found = np.array(sorted(colours(drawing).values(), key=lambda each: [value > 99 for value in each]))
    assert found.shape == wanted.shape and np.abs(found - wanted).max() <= (0 if ending == "png" else 8)


@pytest.mark.parametrize("classes", [["cat", "dog"], {"cat": 0, "dog": 1}, {"cat": (0, 0)}, 2, None])
def test_classes_that_mean_something_else_are_left_alone(classes: Any, pairs: Path) -> None:
    dataset = create("datasets", "side_by_side", root=pairs, split="train")
    dataset.classes = classes
    data = load_data({"data": {"name": "side_by_side", "root": str(pairs)}})
    object.__setattr__(data, "train", Samples(dataset, "a stranger's data set", "train"))
    assert drawing_of(data) is None


def test_edges_are_lines_on_paper(p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path) -> None:
    image = np.full((24, 24, 3), 255, np.uint8)
    image[5], image[:, 9] = 0, 0
    sources(pairs, [image])
    drawing = drawings(p2pkit, train(p2pkit, recipe, tmp_path / "run", *SMALL))[""]
    assert drawing["kind"] == "edges" and colours(drawing) == {"paper": [255] * 3, "line": [0] * 3}


def test_photos_are_not_drawn(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    assert drawings(p2pkit, train(p2pkit, recipe, tmp_path / "run", *SMALL)) == {}
