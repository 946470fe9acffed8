"""Samples kept on the device that trains: the same batches as without, and what does not go there is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from p2pkit.build import augmentation, load_data
from p2pkit.data.augmentation import Augmentation, NamedAugmentation
from p2pkit.data.loader import EpochSampler, Examples, batches
from p2pkit.errors import DataError, RecipeError
from p2pkit.recipe.resolve import read_recipe
from tests.conftest import Call, save, train

CPU = torch.device("cpu")
CROPS = {"transform.load_size": [22, 26], "transform.crop_size": 16, "transform.flip": True}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"source.range": [10, 200], "target.mapping": "logarithmic", "target.range": [1, 220]},
        {"transform.crops_per_image": 3, "source.nodata": 7, "source.fill": 0},
        {"source.nodata": 7, "source.mask": "nodata"},
        {"data.name": "unpaired_folders", "losses": [{"name": "gan"}]},
        {"data.name": "paired_folders", "deep": True},
    ],
)
def test_batches_are_those_of_the_cache_in_memory(more: dict[str, object], recipe: Path, pairs: Path) -> None:
    more = dict(more)
    deep = more.pop("deep", False)
    more |= {"data.root": str(pairs)} if "data.name" in more else {}
    for file in [*pairs.rglob("*.png")] if "data.name" in more else ():
        both = np.asarray(Image.open(file))
        for side, half in (("source", both[:, :24]), ("target", both[:, 24:])):
            pixels = half[:, :, 0].astype(np.uint16) * 257 if deep and side == "target" else half
            save(file.parent / side / file.name, pixels)
        file.unlink()
    found = []
    for cache, device in (("memory", None), ("device", CPU)):
        resolved = read_recipe(recipe, {**CROPS, **more, "loader.cache": cache})
        data = load_data(resolved)
        examples = Examples(data.train, data.spec, augmentation(resolved), resolved.loader, device)
        crops, targets = resolved.transform.crops_per_image, len(data.train.targets or ())
        sampler = EpochSampler(len(data.train), 2, 0, 0, 0, 1, None, crops, targets)
        loaded = batches(examples, sampler, resolved.loader)
        found.append([next(loaded).batch for _ in range(20)])
    for one, other in zip(*found, strict=True):
        assert one.keys == other.keys and (one.mask is None) == (other.mask is None)
        assert torch.equal(one.source, other.source) and torch.equal(one.target, other.target)
        assert one.mask is None or other.mask is None or torch.equal(one.mask, other.mask)


def test_a_run_trains_as_without_and_resumes_exactly(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    weights = []
    for cache in ("none", "device"):
        run = train(p2pkit, recipe, tmp_path / cache, f"loader.cache={cache}", "train.max_steps=6")
        weights.append(load_file(run / "model.safetensors"))
    cut = train(p2pkit, recipe, tmp_path / "cut", "loader.cache=device", "loader.workers=2", "train.max_steps=2")
    assert p2pkit("run", "--resume", cut, "--set", "train.max_steps=6").code == 0
    weights.append(load_file(cut / "model.safetensors"))
    assert all(torch.equal(weights[0][name], each[name]) for each in weights[1:] for name in weights[0])


def test_a_pair_that_cannot_be_used_is_named(recipe: Path, pairs: Path) -> None:
    file = pairs / "train" / "2.png"
    file.write_bytes(file.read_bytes()[:-40])
    resolved = read_recipe(recipe, {**CROPS, "loader.cache": "device"})
    data = load_data(resolved)
    examples = Examples(data.train, data.spec, augmentation(resolved), resolved.loader, CPU)
    found = examples[0, 2]
    assert isinstance(found, DataError) and "2.png" in str(found)


def test_more_than_the_device_holds_is_refused(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20_000, 20_000))
    resolved = read_recipe(recipe, {"loader.cache": "device"})
    data = load_data(resolved)
    gpu = torch.device("cuda")
    found = Examples(data.train, data.spec, augmentation(resolved), resolved.loader, gpu)[0, 0]
    assert isinstance(found, RecipeError) and "6 samples of the train set take about 0.0 GB" in str(found)


def test_augmentations_that_may_draw_elsewhere_are_refused(recipe: Path) -> None:
    resolved = read_recipe(recipe, {"loader.cache": "device"})
    data = load_data(resolved)
    named = [NamedAugmentation("it", lambda source, target: (source, target))]
    drawing = Augmentation(resolved.transform, 0, augmentations=named)
    with pytest.raises(RecipeError, match=r"\[\[augmentations\]\] may draw on the device"):
        Examples(data.train, data.spec, drawing, resolved.loader, torch.device("cuda"))
    Examples(data.train, data.spec, drawing, resolved.loader, CPU)
