"""What masks keep out: values that stand under them, kinds of masks that would weigh nothing, and where masks go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision import tv_tensors

import p2pkit as library
from p2pkit.components.catalogue import create
from p2pkit.contracts import Batch, Sample
from p2pkit.data.augmentation import as_weights
from p2pkit.data.checks import unsettled
from p2pkit.data.samples import Samples
from p2pkit.data.sets import Data
from p2pkit.data.side_values import BySide, SideValues
from p2pkit.errors import DataError, RecipeError
from p2pkit.networks.encoding import Encoded, SourcePart
from p2pkit.networks.fitting import resize, resize_mask
from p2pkit.training.identity import Identity
from p2pkit.training.not_finite import leave_step
from p2pkit.training.sample_grids import Row, sample_grid
from tests.conftest import picture, save


def with_hidden(value: float) -> tuple[Tensor, Tensor]:
    """An image of 32x40 in [0, 1], with ``value`` where its mask, a rectangle and single pixels, is 0; and the mask."""
    random, mask = torch.Generator().manual_seed(3), torch.ones(1, 32, 40)
    mask[:, 8:20, 5:15] = mask[:, 25, 25] = mask[:, 31, 0] = 0
    return torch.where(mask > 0, torch.rand(3, 32, 40, generator=random), torch.tensor(value)), mask


@pytest.mark.parametrize("size", [(64, 80), (48, 60), (31, 41), (24, 30), (16, 20), (20, 80)])
def test_resizing_mixes_nothing_without_weight_into_what_counts(size: tuple[int, int]) -> None:
    (black, mask), (white, _) = (with_hidden(value) for value in (0.0, 1.0))
    counts = resize_mask(mask, size)
    assert torch.equal(resize(black, size) * counts, resize(white, size) * counts)
    assert 0.3 < counts.mean() < 1


@pytest.mark.parametrize("name", ["affine", "elastic"])
def test_moving_mixes_nothing_without_weight_into_what_counts(name: str) -> None:
    changes: dict[str, Any] = {"affine": {"rotation": 40.0, "scale": (0.6, 1.6)}, "elastic": {"magnitude": 0.1}}
    augment = create("augmentations", name, **changes[name])
    for seed in range(5):
        made = []
        for value in (0.0, 1.0):
            target, mask = with_hidden(value)
            torch.manual_seed(seed)
            made.append(augment(tv_tensors.Image(target), tv_tensors.Image(target), tv_tensors.Mask(mask)))
        (_, black, counts), (_, white, _) = made
        assert torch.equal(black * counts, white * counts) and 0.3 < counts.mean() < 1


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.ones((4, 4, 1), np.int64), "it: pixels of type int64 have no range of their own; set mask.range"),
        (np.dstack([np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=np.uint8) * 255]), "it: its alpha differs from"),
        (np.dstack([np.ones((4, 4)), np.eye(4)]) > 0, "it: its alpha differs from pixel to pixel"),
    ],
)
def test_masks_that_would_weigh_nothing_are_refused(mask: Any, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        as_weights(mask, "it")
    assert str(refused.value).startswith(reason)


def test_masks_of_any_integers_weigh_by_a_range() -> None:
    assert torch.equal(as_weights(np.eye(4, dtype=np.int64)[:, :, None], "it", (0, 1))[0], torch.eye(4))
    opaque = np.dstack([np.full((4, 4, 3), 255, np.uint8), np.full((4, 4), 255, np.uint8)])
    assert torch.equal(as_weights(opaque, "it"), torch.ones(1, 4, 4))


def test_a_step_that_is_left_has_its_mask(tmp_path: Path) -> None:
    mask = torch.rand(1, 1, 4, 4)
    leave_step(tmp_path, Batch(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), ["a"], mask), 0.5, 0, None, Identity())
    assert torch.equal(load_file(tmp_path / "process_0.safetensors")["mask"], mask)


def test_grids_show_the_masks_of_the_rows_that_have_them() -> None:
    images = [torch.full((3, 128, 128), value) for value in (-0.5, 0.0, 0.5)]
    rows = [Row("a", images), Row("b", [*images, -torch.ones(1, 128, 128)], ("source", "output", "target", "mask"))]
    grid = sample_grid("", rows)
    assert grid.shape[1] > 4 * 128
    # both names stand above their columns, and the mask is black
    assert np.array_equal(grid, sample_grid("", [Row("a", images, rows[1].columns), rows[1]]))
    assert (grid == 0).all(axis=2).sum() >= 128 * 128


def test_unpaired_data_has_no_masks(recipe: Path, tmp_path: Path) -> None:
    for side in ("source", "target"):
        for index in range(2):
            save(tmp_path / "data" / "train" / side / f"{index}.png", picture(24, 24, index))
    data: dict[str, Any] = {"data": {"name": "unpaired_folders", "root": str(tmp_path / "data")}}
    loaded = library.load_data({**data, "target": {"nodata": 0, "mask": "nodata"}})
    with pytest.raises(RecipeError, match="the data is unpaired, and has no masks"):
        assert loaded.spec
    filled = library.load_data({**data, "target": {"nodata": 0, "fill": 0}})
    assert filled.spec.tensors(filled.train[0], measured=True).mask is None


class _Several(list[Sample]):
    """A data set of samples of which one has other sources than the first."""


def test_samples_of_other_sources_do_not_end_the_look_at_values() -> None:
    image = picture(20, 20, 0)
    given = [
        Sample({"depth": image, "normal": image}, image, "a"), Sample({"depth": image, "other": image}, image, "b"),
        Sample(image, image, "c"),
    ]  # fmt: skip
    none = [Samples((), "it", split) for split in ("val", "test")]
    values = BySide(source=SideValues(), target=SideValues())
    data = Data(
        Samples(_Several(given), "it", "train"), *none, none[1], "skip", values, BySide(source=None, target=None)
    )
    assert unsettled(data) == []
    with pytest.raises(DataError, match="b: its sources, with their channels, are depth 3, other 3, those of a"):
        data.spec.tensors(data.train[1])


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        (
            {"a": torch.zeros(1, 4, 4), "b": torch.zeros(3, 8, 8)},
            "of shapes a [1, 4, 4], b [3, 8, 8] where a [1",
        ),
        ({"a": torch.zeros(1, 4, 4)}, "of shapes a [1, 4, 4], without b where a [1, H, W], b [3, H, W] of one size"),
    ],
)
def test_sources_that_an_augmentation_spoils(sources: dict[str, torch.Tensor], found: str) -> None:
    from p2pkit.data.augmentation import Augmentation, NamedAugmentation, Tensors
    from p2pkit.settings import TransformSettings

    parts = SourcePart("a", 1), SourcePart("b", 3)
    spoils = NamedAugmentation("it", lambda source, target: (sources, target))
    augmentation = Augmentation(TransformSettings(), 0, parts, [spoils])
    with pytest.raises(RecipeError, match="it gives sources") as refused:
        augmentation.train(Tensors(torch.zeros(4, 4, 4), torch.zeros(3, 4, 4)), (0, 0), "k")
    assert found in str(refused.value) and "for k" in str(refused.value)


def test_a_generator_behind_an_encoding_may_take_a_map_of_another_size() -> None:
    class Modulated(torch.nn.Module):
        def forward(self, source: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
            return source * style

    encoded = Encoded(torch.nn.Identity(), Modulated())
    assert encoded(torch.ones(1, 3, 8, 8), torch.full((1, 3, 1, 1), 2.0)).shape == (1, 3, 8, 8)


class _Unpaired(list[Sample]):
    """Sources of two kinds, and targets that go with none of them."""

    paired, targets = False, 3

    def target(self, index: int) -> Any:
        return picture(20, 20, 50 + index)


def test_unpaired_data_may_have_several_sources() -> None:
    from p2pkit.data.augmentation import Augmentation
    from p2pkit.data.loader import Example, Examples
    from p2pkit.settings import LoaderSettings, TransformSettings

    given = [Sample({"a": picture(20, 20, seed), "b": picture(20, 20, seed, 1)}, None, f"{seed}") for seed in range(3)]
    train = Samples(_Unpaired(given), "it", "train")
    values = BySide(source=SideValues(), target=SideValues())
    none = [Samples((), "it", split) for split in ("val", "test")]
    data = Data(train, *none, none[1], "stop", values, BySide(source=None, target=None))
    parts = SourcePart("a", 3), SourcePart("b", 1, "nearest")
    augmentation = Augmentation(TransformSettings(load_size=24, crop_size=16), 0, parts)
    made = Examples(train, data.spec, augmentation, LoaderSettings())[0, 1, 2]
    assert isinstance(made, Example) and made.key == "1, train_target_00002", made
    assert made.tensors.source.shape == (4, 16, 16) and made.tensors.target.shape == (3, 16, 16)
