from __future__ import annotations

import hashlib
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pkit.builtin.datasets.facade_drawing.palette import LABEL_COLOURS, Label
from p2pkit.builtin.datasets.procedural_facades import ProceduralFacades
from p2pkit.contracts import Split

GOLDEN = "c91febe977d669ba98e2e4499a557669ed7f8a288c561ca4498eddd106798de4"
SIZES = [(32, 32), (40, 96), (96, 40), (33, 257), (128, 128), (256, 512)]


def class_numbers(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The class of each pixel, or 255 where a colour is not in the palette."""
    classes = np.full(labels.shape[:2], 255, dtype=np.uint8)
    for number, colour in enumerate(LABEL_COLOURS):
        classes[(labels == np.array(colour, dtype=np.uint8)).all(axis=2)] = number
    return classes


def test_the_same_numbers_give_the_same_pixels_everywhere() -> None:
    pair = ProceduralFacades("train", size=(96, 112), seed=7)[3]
    digest = hashlib.sha256(pair.source.tobytes() + pair.target.tobytes()).hexdigest()
    assert digest == GOLDEN, "the drawing changed: raise facade_drawing.REVISION, and put the new digest here"


def test_a_pair_does_not_depend_on_what_was_drawn_before() -> None:
    data = ProceduralFacades("train", size=64)
    late = data[5]
    data[2]
    again = ProceduralFacades("train", size=64, pairs=9)[5]
    assert np.array_equal(late.source, again.source)
    assert np.array_equal(late.target, again.target)


def test_splits_and_seeds_have_nothing_in_common() -> None:
    sets = [
        ProceduralFacades("train", size=48),
        ProceduralFacades("val", size=48),
        ProceduralFacades("test", size=48),
        ProceduralFacades("train", 48, seed=1),
    ]
    photos = {data[index].target.tobytes() for data in sets for index in range(20)}
    labels = {data[index].source.tobytes() for data in sets for index in range(20)}
    assert len(photos) == 80
    assert len(labels) == 80


def test_all_twelve_classes_appear_and_no_other_colour() -> None:
    data = ProceduralFacades("train", size=256)
    seen = set()
    for index in range(40):
        seen.update(np.unique(class_numbers(data[index].source)).tolist())
    assert seen == {label.value for label in Label}


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size(height: int, width: int) -> None:
    data = ProceduralFacades("test", size=(height, width))
    for index in range(14):
        pair = data[index]
        assert pair.source.shape == pair.target.shape == (height, width, 3)
        assert pair.source.dtype == pair.target.dtype == np.uint8
        assert class_numbers(pair.source).max() < len(LABEL_COLOURS)
        assert pair.target.std() > 15


def test_one_facade_keeps_its_layout_at_another_size() -> None:
    small, large = (ProceduralFacades("train", size=size)[0].source for size in (128, 256))
    same = (small == large[::2, ::2]).all(axis=2)
    assert same.mean() > 0.9


def test_photo_and_labels_line_up() -> None:
    """Where the labels change class, the photo changes most when it is not shifted."""
    data = ProceduralFacades("train", size=128)
    strength = np.zeros(5)
    for index in range(21):
        classes, photo = class_numbers(data[index].source), data[index].target.astype(np.float64).mean(axis=2)
        edges = classes[:, 4:-4] != classes[:, 3:-5]
        for shift in range(-2, 3):
            change = np.abs(photo[:, 4 + shift : 124 + shift] - photo[:, 3 + shift : 123 + shift])
            strength[shift + 2] += change[edges].sum()
    assert strength.argmax() == 2


def test_direction_swaps_source_and_target() -> None:
    labels_first = ProceduralFacades("train", size=64)[0]
    photo_first = ProceduralFacades("train", size=64, direction="AtoB")[0]
    assert np.array_equal(labels_first.source, photo_first.target)
    assert np.array_equal(labels_first.target, photo_first.source)
    assert class_numbers(labels_first.source).max() < len(LABEL_COLOURS)


def test_lengths_keys_and_ends() -> None:
    train, val, test = (
        ProceduralFacades(split, size=32, pairs=13, val_pairs=4, test_pairs=2) for split in get_args(Split)
    )
    assert (len(train), len(val), len(test)) == (13, 4, 2)
    assert len(ProceduralFacades("test", test_pairs=0)) == len(ProceduralFacades("val", val_pairs=0)) == 0
    assert (train[12].key, val[0].key, test[0].key) == ("train_00012", "val_00000", "test_00000")
    for index in (13, -1):
        with pytest.raises(IndexError, match="13 facades"):
            train[index]


def test_the_fingerprint_follows_every_setting() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"size": 64},
        {"size": (64, 256)},
        {"pairs": 3},
        {"seed": 1},
        {"direction": "AtoB"},
    ]
    prints = {ProceduralFacades("train", **each).fingerprint() for each in settings}
    prints.add(ProceduralFacades("test").fingerprint())
    assert len(prints) == len(settings) + 1
    assert ProceduralFacades("train").fingerprint() == ProceduralFacades("train").fingerprint()


def test_the_signature_is_a_schema() -> None:
    hints = get_type_hints(ProceduralFacades.__init__, include_extras=True)
    assert get_origin(hints["pairs"]) is Annotated
    size: TypeAdapter[Any] = TypeAdapter(hints["size"])
    assert size.validate_python(96) == 96
    assert size.validate_python([40, 96]) == (40, 96)
    for bad in (31, [31, 64], [64], "large"):
        with pytest.raises(ValidationError):
            size.validate_python(bad)
    for name in ("split", "size", "pairs", "val_pairs", "test_pairs", "seed", "direction"):
        assert f"{name}: " in (ProceduralFacades.__doc__ or "")
