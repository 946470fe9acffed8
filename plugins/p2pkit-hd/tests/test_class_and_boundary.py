"""The encoding of label maps: classes, and boundaries between objects."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from p2pkit_hd.encoding import ClassAndBoundary

RANGE = (0.0, 65535.0)


def unit(numbers: list[list[int]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)[None, None] / 32767.5 - 1


def test_numbers_below_a_thousand_are_classes_and_others_objects() -> None:
    encoding = ClassAndBoundary(1, RANGE, classes=27)
    encoded = encoding(unit([[7, 26000, 26001], [7, 26000, 26001], [255, 26000, 24003]]))
    assert encoded.shape == (1, encoding.channels, 3, 3) == (1, 28, 3, 3)
    classes = encoded[0, :27]
    assert classes[7].tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert classes[26].tolist() == [[0, 1, 1], [0, 1, 1], [0, 1, 0]]
    assert classes[24].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert not classes[:, 2, 0].any()  # 255 is none of them
    assert encoded.unique().tolist() == [0, 1]


def test_a_boundary_is_where_a_neighbour_is_of_another_object() -> None:
    encoding = ClassAndBoundary(1, RANGE, classes=27)
    rows = [[7, 7, 7, 7, 7], [7, 7, 7, 7, 7], [7, 7, 26000, 7, 7], [7, 7, 7, 7, 7], [7, 7, 7, 7, 26001]]
    expected = [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]]
    assert encoding(unit(rows))[0, -1].tolist() == expected
    cars = [[26000, 26000, 26001, 26001]]
    assert encoding(unit(cars))[0, -1].tolist() == [[0, 1, 1, 0]]


def test_sources_of_two_channels_are_class_and_instance() -> None:
    encoding = ClassAndBoundary(2, (0.0, 255.0), classes=3)
    classes, instances = torch.tensor([[1.0, 1, 1, 2, 2]]), torch.tensor([[4.0, 5, 5, 5, 5]])
    encoded = encoding(torch.stack([classes, instances])[None] / 127.5 - 1)
    assert encoded[0, 1].tolist() == [[1, 1, 1, 0, 0]]
    assert encoded[0, 2].tolist() == [[0, 0, 0, 1, 1]]
    assert encoded[0, 3].tolist() == [[1, 1, 1, 1, 0]]  # another instance, or another class of the same number
    unpacked = torch.cat([unit([[2002]]), unit([[1]])], dim=1)
    assert not ClassAndBoundary(2, RANGE, classes=3)(unpacked).any()


def test_a_tile_is_encoded_as_in_the_whole_image() -> None:
    encoding = ClassAndBoundary(1, RANGE, classes=27)
    image = unit(torch.randint(0, 27, (12, 12), generator=torch.Generator().manual_seed(0)).tolist())
    tile = encoding(image[:, :, 3:9, 3:9])
    assert torch.equal(tile[:, :, 1:-1, 1:-1], encoding(image)[:, :, 4:8, 4:8])
    assert torch.equal(tile[:, :-1], encoding(image)[:, :-1, 3:9, 3:9])
    # a seam is not a boundary of objects
    assert not encoding(unit([[7] * 6] * 6)[:, :, 2:, 2:])[:, -1].any()


def test_pictures_have_a_colour_a_class_and_black_boundaries() -> None:
    encoding = ClassAndBoundary(1, RANGE, classes=27)
    picture = encoding.picture(unit([[7, 7, 26000, 26000, 26001, 26001, 26001]]))[0, :, 0]
    assert (picture[:, 1:5] == -1).all()
    assert not torch.equal(picture[:, 0], picture[:, 6]) and picture.abs().max() <= 1


def test_pictures_are_refused_as_label_maps() -> None:
    with pytest.raises(ValueError, match=r"takes sources of 1 channel .* or of 2 .* these have 3"):
        ClassAndBoundary(3, RANGE)
