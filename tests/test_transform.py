"""[transform]: the aspect kept in resizing, several crops of one image an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p2pkit.contracts import Sample
from p2pkit.data.augmentation import Augmentation, SampleSpec, Tensors
from p2pkit.data.loader import Examples
from p2pkit.data.samples import Samples
from p2pkit.images.pixels import PLAIN_READING
from p2pkit.settings import LoaderSettings, TransformSettings
from tests.conftest import Call, picture, save, train


def ramps(height: int, width: int, channels: int = 1) -> Tensor:
    """A smooth picture in [-0.8, 0.8], neither dark nor the same anywhere along an edge."""
    rows, columns = torch.linspace(-0.5, 0.8, height)[:, None], torch.linspace(-0.3, 0, width)[None]
    return (rows + columns).expand(channels, height, width)


def transform(**settings: Any) -> Augmentation:
    return Augmentation(TransformSettings(**settings), 0)


def test_keeping_the_aspect_resizes_by_one_factor_in_training_and_validation() -> None:
    wide = ramps(30, 60)
    kept = transform(load_size=20, keep_aspect=True)
    assert (
        kept.train(Tensors(wide, wide), (0, 0), "key")[0].shape
        == (1, 20, 40)
        == kept.test(Tensors(wide, wide))[0].shape
    )
    cropped = transform(load_size=20, keep_aspect=True, crop_size=16)
    assert cropped.train(Tensors(wide, wide), (0, 0), "key")[0].shape == (1, 16, 16)
    assert cropped.test(Tensors(wide, wide))[0].shape == (1, 20, 40)
    covering = transform(load_size=[20, 90], keep_aspect=True)
    assert covering.sizes((30, 60)).crop == (45, 90) and covering.sizes((10, 7)).crop == (129, 90)
    # a pixel is as wide as it is high: the slope along the rows stays twice that of half the height
    assert torch.allclose(kept.test(Tensors(wide, wide))[0], ramps(20, 40), atol=0.03)


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"keep_aspect": True}, "load_size beside keep_aspect"), ({"crops_per_image": 2}, "crop_size beside crops")],
)
def test_keys_of_transform_that_need_another_say_so(
    settings: dict[str, Any], text: str, recipe: Path, p2pkit: Call
) -> None:
    recipe.write_text(recipe.read_text().replace("load_size = 20\ncrop_size = 16\n", ""))
    ((key, value),) = settings.items()
    outcome = p2pkit("check", recipe, "--set", f"transform.{key}={str(value).lower()}")
    assert outcome.code == 2 and "transform: " in outcome.err and text in outcome.err


def test_images_of_several_shapes_train_with_their_aspect_kept(tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    root = tmp_path / "pairs"
    for index, width in enumerate((24, 32, 40)):
        left = picture(24, width, seed=index)
        save(root / "train" / f"{index}.png", np.concatenate([left, 255 - left], axis=1))
    sides = ("transform.keep_aspect=true", "transform.load_size=20")
    run = train(p2pkit, recipe, tmp_path / "run", *sides)
    assert p2pkit("inspect", run, "--json").json["size"] == [16, 16]
    recipe.write_text(recipe.read_text().replace("crop_size = 16\n", ""))
    settings = (part for side in (*sides, "transform.load_size=24") for part in ("--set", side))
    outcome = p2pkit("run", recipe, *settings, "--out", tmp_path / "no")
    assert outcome.code == 2 and "no batch can hold both" in outcome.err
    single = train(p2pkit, recipe, tmp_path / "single", *sides, "loader.batch_size=1", "transform.load_size=24")
    assert p2pkit("inspect", single, "--json").json["size"] is None


class Counted:
    """Three pairs that are costly to read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        pixels = picture(24, 24, index)
        return Sample(pixels, pixels, str(index))

    def fingerprint(self) -> str:
        return ""


def plain_spec(samples: Samples) -> SampleSpec:
    return SampleSpec(samples[0].header, dict.fromkeys(("source", "target"), (None, PLAIN_READING)))


def test_an_image_is_read_once_for_crops_that_follow_one_another_and_each_is_another() -> None:
    pairs = Counted()
    samples = Samples(pairs, "data set 'counted'", "train")
    settings = TransformSettings(crop_size=8, crops_per_image=3, flip=True)
    examples = Examples(samples, plain_spec(samples), Augmentation(settings, 0), LoaderSettings())
    pairs.read.clear()
    found: list[Any] = [examples[0, 3 * index + crop] for index in (2, 0) for crop in range(3)]
    assert pairs.read == [2, 0]
    assert len({each.tensors[0].numpy().tobytes() for each in found}) == 6
    single = Examples(samples, plain_spec(samples), Augmentation(
        TransformSettings(crop_size=8, flip=True), 0), LoaderSettings())  # fmt: skip
    first: Any = single[0, 2]
    assert torch.equal(first.tensors[0], found[0].tensors[0])
    later: Any = examples[1, 2]
    assert pairs.read[-1] == 0 and not torch.equal(later.tensors[0], found[-1].tensors[0])


def test_more_samples_than_pairs_fill_a_batch(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    sizes = ("transform.crops_per_image=2", "loader.batch_size=12", "train.max_steps=2")
    run = train(p2pkit, recipe, tmp_path / "run", *sizes)
    assert "epoch" in (run / "metrics.jsonl").read_text()
    outcome = p2pkit(
        "check", recipe, *(part for each in sizes for part in ("--set", each)), "--set", "loader.batch_size=13"
    )
    assert outcome.code == 2 and "6 pairs, of which 2 crops are taken each; lower it to 12" in outcome.err
