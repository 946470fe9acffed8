"""Sample grids: which images stand where, how large they are, and what the words around them say."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from p2pkit.training.sample_grids import GAP, LINE, TOP, Row, sample_grid
from tests.conftest import Call, train

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255))


def flat(colour: Sequence[int], height: int, width: int) -> torch.Tensor:
    return (torch.tensor(colour, dtype=torch.float32) / 127.5 - 1)[:, None, None].expand(3, height, width)


def rows(height: int, width: int, columns: int = 3, keys: Sequence[str] = ("a.png", "b.png")) -> list[Row]:
    """Rows of images of one colour each."""
    return [
        Row(key, [flat(COLOURS[(3 * row + column) % 6], height, width) for column in range(columns)])
        for row, key in enumerate(keys)
    ]


def same(one: NDArray[np.uint8], other: NDArray[np.uint8], top: int, bottom: int) -> bool:
    return one.shape == other.shape and bool((one[top:bottom] == other[top:bottom]).all())


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((64, 64), (128, 128)),
        ((20, 30), (100, 150)),
        ((128, 128), (128, 128)),
        ((200, 256), (200, 256)),
        ((512, 1024), (128, 256)),
        ((300, 299), (256, 255)),
        ((5000, 3), (256, 1)),
        ((1, 1), (128, 128)),
    ],
    ids=str,
)
def test_images_of_any_size_have_their_places(size: tuple[int, int], shown: tuple[int, int]) -> None:
    grid = sample_grid("step 5, val set", rows(*size, keys=("a", "b", "c", "d")))
    height, width = shown
    assert grid.shape[0] == TOP + 4 * (height + LINE + GAP) <= 1200 and grid.shape[1] <= 900
    for row in range(4):
        for column in range(3):
            top, left = TOP + row * (height + LINE + GAP), GAP + column * (width + GAP)
            colour = np.array(COLOURS[(3 * row + column) % 6])
            assert (grid[top : top + height, left : left + width] == colour).all()
            assert (grid[top : top + height, left + width : left + width + GAP] == 255).all()
            assert (grid[top - 1 : top, left : left + width] != colour).any()


def test_a_long_name_of_a_column_has_several_lines() -> None:
    one = sample_grid("", [Row("a", [flat(COLOURS[0], 128, 128)] * 2, ("short", "L1"))])
    name = "a longer name of a row than its images are wide"
    grid = sample_grid("", [Row("a", [flat(COLOURS[0], 128, 128)] * 2, (name, "L1"))])
    assert grid.shape[1] == one.shape[1] and (grid.shape[0] - one.shape[0]) % LINE == 0
    assert grid.shape[0] > one.shape[0]
    assert (grid[TOP:, 128 + GAP : 128 + 2 * GAP] == 255).all()  # no letter is beyond its column


def test_small_images_are_enlarged_pixel_by_pixel_and_large_ones_averaged() -> None:
    levels = torch.randint(256, (3, 40, 64))
    grid = sample_grid("", [Row("a", [levels / 127.5 - 1])])[TOP : TOP + 80, GAP : GAP + 128]
    pixels = levels.byte().permute(1, 2, 0).numpy()
    assert (grid == pixels.repeat(2, axis=0).repeat(2, axis=1)).all()
    checks = torch.ones(1, 512, 512)
    checks[:, ::2, ::2] = checks[:, 1::2, 1::2] = -1.0
    grid = sample_grid("", [Row("a", [checks])])[TOP : TOP + 256, GAP : GAP + 256]
    assert np.unique(grid).tolist() in ([127], [128])


def test_rows_may_differ_in_size_and_images_in_channels() -> None:
    gray, more = torch.full((1, 150, 200), -1.0), torch.cat([flat(COLOURS[1], 150, 200), torch.rand(2, 150, 200)])
    grid = sample_grid("", [Row("a", [gray, more]), Row("b", [flat(COLOURS[0], 200, 130)] * 2)])
    assert grid.shape == (TOP + 150 + 200 + 2 * (LINE + GAP), 3 * GAP + 400, 3)
    assert (grid[TOP : TOP + 150, GAP : GAP + 200] == 0).all()
    assert (grid[TOP : TOP + 150, 2 * GAP + 200 : 2 * GAP + 400] == COLOURS[1]).all()
    second = TOP + 150 + LINE + GAP
    assert (grid[second : second + 200, 2 * GAP + 200 : 2 * GAP + 330] == COLOURS[0]).all()


def test_title_columns_and_keys_are_written_dark_on_white_where_they_belong() -> None:
    titled = GAP + LINE
    below_first, end_of_first = TOP + 128, TOP + 128 + LINE + GAP
    grid = sample_grid("step 500, val set", rows(64, 64))
    for top, bottom in ((0, titled), (titled, TOP), (below_first, end_of_first), (TOP + 2 * 128 + LINE + GAP, None)):
        text = grid[top:bottom]
        assert text.min() < 120 and np.median(text) == 255
        assert (text.max(axis=2) == text.min(axis=2)).all()  # no colour
    other_title = sample_grid("step 600, test set", rows(64, 64))
    assert not same(grid, other_title, 0, titled) and same(grid, other_title, titled, grid.shape[0])
    other_key = sample_grid("step 500, val set", rows(64, 64, keys=("c.png", "b.png")))
    assert not same(grid, other_key, below_first, end_of_first)
    assert same(grid, other_key, 0, below_first) and same(grid, other_key, end_of_first, grid.shape[0])
    # no name above a column that is not there
    two = sample_grid("step 500, val set", rows(64, 64, columns=2))
    third = GAP + 2 * (128 + GAP)
    assert two.shape[1] == third and (two[:TOP, :-1] == grid[:TOP, : third - 1]).all()  # but for the edge of the t
    assert grid[titled:TOP, third:].min() < 200


def test_a_long_title_is_whole_beside_few_small_images() -> None:
    title = "step 1234567, test set, which serves as val set too"
    grid = sample_grid(title, rows(64, 64, columns=1))
    wide = sample_grid(title, rows(256, 256))[: GAP + LINE, : grid.shape[1]]
    assert 300 < grid.shape[1] < 400 and (grid[: GAP + LINE] == wide).all() and (grid[:, -GAP + 1 :] == 255).all()


def caption(key: str, beside: str = "other.png") -> NDArray[np.uint8]:
    """The pixels below the first of two rows."""
    return sample_grid("step 5", rows(64, 64, keys=(key, beside)))[TOP + 128 : TOP + 128 + LINE]


def test_keys_show_the_files_name_and_as_many_folders_as_tell_rows_apart() -> None:
    assert (caption("train/a/1.png") == caption("1.png")).all()
    assert (caption("train/a/1.png", "train/b/1.png") == caption("a/1.png", "b/1.png")).all()
    assert not (caption("a/1.png", "b/1.png") == caption("c/1.png", "b/1.png")).all()
    assert not (caption("a/1.png", "b/1.png") == caption("1.png")).all()
    assert (caption("a/1.png", "a/1.png") == caption("1.png")).all()  # one sample stands for one that is skipped
    assert (caption("x/facade\u0301_gru\u0308n.png") == caption("facade_grun.png")).all()
    assert not (caption("\u5efa\u7b51.png") == caption("\u7b51\u5efa.png")).all()
    assert (caption("two\nlines") == caption("two\\nlines")).all()


def test_a_long_key_is_cut_in_its_middle() -> None:
    key = "/".join(["folder", "begins_here_" + "middle_" * 40 + "ends_there_0001.png"])
    shown = caption(key)
    assert shown[:, GAP:-GAP].min() < 120 and (shown[:, -GAP:] == 255).all() and (shown[:, :GAP] == 255).all()
    assert (shown == caption(key.replace("middle_" * 20, "centre_" * 20, 1).replace("centre_", "middle_", 5))).all()
    assert not (shown == caption(key.replace("0001", "0002"))).all()
    assert not (shown == caption(key.replace("begins", "starts"))).all()


@pytest.mark.parametrize(
    ("split", "called", "sets"),
    [
        ("test", "test set, which serves as val set too", {"train", "test"}),
        ("val", "val set", {"train", "test", "val"}),
        ("train", "train set", {"train"}),
    ],
)
def test_a_run_says_which_set_its_grids_show(
    split: str, called: str, sets: set[str], p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path
) -> None:
    shutil.copytree(pairs / "test", pairs / "val")
    for name in {"test", "val"} - sets:
        shutil.rmtree(pairs / name)
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_steps=2")
    with Image.open(run / "samples" / "step_00000002.png") as picture:
        grid = np.asarray(picture)
    keys = ["0.png", "1.png", "3.png", "4.png"] if split == "train" else ["0.png", "1.png"]
    expected = sample_grid(f"step 2, {called}", rows(16, 16, keys=keys))
    assert same(grid, expected, 0, TOP)
    for row in range(len(keys)):
        top = TOP + row * (128 + LINE + GAP)
        assert same(grid, expected, top + 128, top + 128 + LINE)
        # the target is the source inverted
        source, target = (grid[top : top + 128, left : left + 128].astype(int) for left in (GAP, GAP + 2 * (128 + GAP)))
        assert np.abs(source + target - 255).max() <= 1 and np.ptp(source) > 50
