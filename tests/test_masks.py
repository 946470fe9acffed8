"""Masks: what does not count is not learnt from, whatever the loss; masks of other values, and those from values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from p2pkit import Batch, WeightedLoss, create
from p2pkit.builtin.methods.pix2pix import Pix2Pix
from p2pkit.training.step import AdaptedLoss
from tests.conftest import SMALL, SMALLEST, Call, lines, picture, save, train, validation
from tests.scenes import SIDE, weights_of
from tests.test_two_sources import arguments

CHANNELS = {"source_channels": 3, "target_channels": 3}
LOSSES: Mapping[str, dict[str, Any]] = {
    "l1": {}, "ssim": {}, "perceptual": {"backbone": SMALLEST, "pretrained": False, "layers": [0, 1]}, "gan": {},
}  # fmt: skip
WITH_MASK = SMALL.replace('name = "side_by_side"', 'name = "paired_folders"\nmask = "weights"')
L1_ALONE = ('losses=[{name = "l1"}]', "generator.dropout=0.0")


class Watched(nn.Module):
    """A generator whose output takes note of its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.network = create("generators", "resnet", blocks=1, width=4, **CHANNELS)
        self.gradients: list[Tensor] = []

    def forward(self, source: Tensor) -> Tensor:
        output: Tensor = self.network(source)
        if output.requires_grad:
            output.register_hook(self.gradients.append)
        return output


class Backward:
    """An update that sends gradients back, and lowers nothing."""

    progress, accumulate = 0.0, 1

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __call__(self, networks: Any, terms: Any, fixed: Any = ()) -> None:
        for term in terms(self.batch).values():
            term.backward(retain_graph=True)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_has_a_gradient_where_the_mask_is_0(name: str) -> None:
    torch.manual_seed(0)
    loss = WeightedLoss(name, 1.0, AdaptedLoss.of(create("losses", name, **CHANNELS, **LOSSES[name])))
    method = Pix2Pix(Watched(), create("discriminators", "patchgan_16", width=4, **CHANNELS), [loss])
    source, target = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    mask = torch.ones(2, 1, 64, 64)
    mask[:, :, :, :32] = 0.0
    for weights in (mask, None):
        batch = Batch(source, target, ["a", "b"], weights)
        method.generator.gradients.clear()
        method.train_step(batch, Backward(batch))
        (gradient,) = method.generator.gradients
        assert gradient[:, :, :, 32:].any() and bool(gradient[:, :, :, :32].any()) is (weights is None)


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """A recipe of photos with masks."""
    root = tmp_path / "masked"
    for split, seeds in (("train", range(4)), ("val", (4, 5))):
        for seed in seeds:
            save(root / split / "source" / f"{seed}.png", picture(SIDE, SIDE, seed))
            save(root / split / "target" / f"{seed}.png", 255 - picture(SIDE, SIDE, seed))
            save(root / split / "weights" / f"{seed}.png", weights_of(seed))
    (tmp_path / "masked.toml").write_text(WITH_MASK.format(root=root).replace("load_size = 20\n", ""))
    return tmp_path / "masked.toml"


def with_masks(recipe: Path, make: Any) -> None:
    """Put other masks in the place of those of ``recipe``."""
    for file in recipe.with_suffix("").glob("*/weights/*"):
        save(file, make(int(file.stem)))


def weights(run: Path) -> dict[str, Tensor]:
    """All that has been learnt."""
    return load_file(run / "checkpoints/step_00000004/networks.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    "losses", [L1_ALONE, ('losses=[{name = "gan"}, {name = "ssim"}]',)], ids=["l1", "gan and ssim"]
)
def test_what_does_not_count_is_not_learnt(losses: tuple[str, ...], masked: Path, tmp_path: Path, p2pkit: Call) -> None:
    one = train(p2pkit, masked, tmp_path / "one", *losses)
    for file in masked.with_suffix("").glob("*/target/*"):
        target, uncounted = 255 - picture(SIDE, SIDE, int(file.stem)), weights_of(int(file.stem)) == 0
        assert uncounted.any()
        target[uncounted] = np.random.default_rng(1).integers(0, 256, target[uncounted].shape)
        save(file, target)
    other = train(p2pkit, masked, tmp_path / "other", *losses)
    metrics = [
        {key: line[key] for key in line if key.startswith("validation/")} for line in (lines(one)[-1], lines(other)[-1])
    ]
    assert same(one, other) and metrics[0] == metrics[1] and "validation/ssim" in metrics[0]
    with_masks(masked, lambda seed: np.maximum(weights_of(seed), 1))
    assert not same(one, train(p2pkit, masked, tmp_path / "third", *losses))


EXTRAS = (
    "train.ema_decay=0.5", "train.accumulate=2",
    'discriminator_augmentation.policy=["colour", "translation", "cutout"]',
    'augmentations=[{name = "affine"}, {name = "elastic"}, {name = "noise"}]',
)  # fmt: skip


def test_masks_in_which_all_counts_change_nothing(masked: Path, tmp_path: Path, p2pkit: Call) -> None:
    with_masks(masked, lambda seed: np.full((SIDE, SIDE), 255, np.uint8))
    outcome = p2pkit("run", masked, "--out", tmp_path / "full", *arguments(*EXTRAS))
    assert outcome.code == 0 and "every pixel counts in full, as it would without masks" in outcome.err
    masked.write_text(masked.read_text().replace('mask = "weights"\n', ""))
    # affine and elastic move pixels in from beyond the edge, which count as those there do
    without = train(p2pkit, masked, tmp_path / "without", *EXTRAS)
    assert same(tmp_path / "full", without)
    assert (tmp_path / "full/model.safetensors").stat().st_size > 0


def test_masks_go_with_all_that_a_run_may_have(masked: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, masked, tmp_path / "run", *EXTRAS)
    assert all(value.isfinite().all() for value in weights(run).values())
    half = train(p2pkit, masked, tmp_path / "half", *EXTRAS, "train.max_steps=2")
    assert p2pkit("run", "--resume", half, "--set", "train.max_steps=4").code == 0
    assert same(run, half)


def test_masks_of_0_and_1_need_a_range(masked: Path, tmp_path: Path, p2pkit: Call) -> None:
    def counts(seed: int) -> Any:
        return (weights_of(seed) > 0).astype(np.uint8)

    with_masks(masked, lambda seed: 255 * counts(seed))
    expected = train(p2pkit, masked, tmp_path / "expected")
    with_masks(masked, counts)
    for command in (("check", masked), ("run", masked, "--out", tmp_path / "run")):
        outcome = p2pkit(*command)
        assert outcome.code == 2 and "set mask.range, as in mask.range = [0, 1]" in outcome.err, outcome.err
    assert not (tmp_path / "run").exists()
    assert same(expected, train(p2pkit, masked, tmp_path / "run", "mask.range=[0, 1]"))


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.full((SIDE, 20), 255, np.uint8), "2.png is 24x24 and"),
        (picture(SIDE, SIDE, 1), "channels, which differ; a mask is one channel of weights"),
    ],
)
def test_masks_that_cannot_be_used(mask: Any, reason: str, masked: Path, tmp_path: Path, p2pkit: Call) -> None:
    save(masked.with_suffix("") / "train" / "weights" / "2.png", mask)
    outcome = p2pkit("run", masked, "--out", tmp_path / "run")
    assert outcome.code == 2 and "2.png" in outcome.err and reason in outcome.err, outcome.err
    skipped = p2pkit("run", masked, "--out", tmp_path / "skipped", "--set", "loader.bad_data=skip")
    assert skipped.code == 0, skipped.err


@pytest.mark.parametrize("split", ["train", "val"])
def test_sets_in_which_nothing_counts_are_refused_before_training(split: str, masked: Path, p2pkit: Call) -> None:
    for file in masked.with_suffix("").glob(f"{split}/weights/*"):
        save(file, np.zeros((SIDE, SIDE), np.uint8))
    for command in (("check", masked), ("run", masked, "--out", masked.with_suffix(".run"))):
        outcome = p2pkit(*command)
        assert outcome.code == 2 and "a weight of 0, so that nothing counts" in outcome.err, outcome.err
    assert not masked.with_suffix(".run").exists()


def test_masks_in_which_nothing_counts_in_full_are_reported(masked: Path, p2pkit: Call) -> None:
    with_masks(masked, lambda seed: np.minimum(weights_of(seed), 200))
    assert "no pixel counts in full" in " ".join(p2pkit("check", masked).out.split())
    assert "no pixel" not in p2pkit("check", masked, "--set", "mask.range=[0, 200]").out


def test_what_a_mask_says_beside_its_values_is_left_out(masked: Path, p2pkit: Call) -> None:
    def with_alpha(seed: int) -> Any:
        return np.dstack([(weights_of(seed) > 0).astype(np.uint8)] * 3 + [np.full((SIDE, SIDE), 255, np.uint8)])

    with_masks(masked, with_alpha)
    assert "set mask.range, as in mask.range = [0, 1]" in p2pkit("check", masked).err
    for file in masked.with_suffix("").glob("*/weights/*"):
        file.unlink()
        # GDAL's nodata, as in rasters of classes
        nodata = [(42113, "s", 0, "0", True)]
        tifffile.imwrite(file.with_suffix(".tif"), weights_of(int(file.stem)), extratags=nodata)
    outcome = p2pkit("check", masked)
    assert outcome.code == 0, outcome.err
    np.save(file.with_suffix(".npy"), np.where(weights_of(1) > 0, 1, np.nan).astype(np.float32))
    file.with_suffix(".tif").unlink()
    assert "are not finite (NaN or infinite); 0 is what counts nothing" in p2pkit("check", masked).err


HEIGHTS = (
    'data={{name = "paired_folders", root = "{root}"}}', "target.range=[0, 3000]", "loader.bad_data=stop",
    "transform.load_size=24",
)  # fmt: skip


def heights(root: Path, missing: float) -> Path:
    """Heights as float32, of which some are not there."""
    for split, seeds in (("train", range(4)), ("val", (4, 5))):
        for seed in seeds:
            save(root / split / "source" / f"{seed}.png", picture(SIDE, SIDE, seed))
            values = picture(SIDE, SIDE, 9 - seed, 1)[:, :, 0].astype(np.float32) * 10
            values[weights_of(seed) == 0] = missing
            (root / split / "target").mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / split / "target" / f"{seed}.tif", values)
    return root


def test_values_that_are_not_there_make_the_mask(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    runs = []
    for name, missing, nodata in (("nan", np.nan, '"nan"'), ("number", -9999.0, "-9999")):
        root = heights(tmp_path / f"{name}_heights", missing)
        settings = [setting.format(root=root) for setting in HEIGHTS]
        if name == "nan":
            outcome = p2pkit("check", recipe, *arguments(*settings))
            assert outcome.code == 2 and 'nodata = "nan"' in outcome.err, outcome.err
        runs.append(
            train(p2pkit, recipe, tmp_path / name, *settings, f"target.nodata={nodata}", 'target.mask="nodata"')
        )
    assert same(*runs)
    measured, metrics = lines(runs[0])[-1], [validation(run) for run in runs]
    assert measured == lines(runs[1])[-1]
    expected = np.mean([(weights_of(seed) != 0).mean() for seed in (4, 5)])
    assert all(one["coverage"] == pytest.approx(expected, abs=1e-6) for one in metrics)
    evaluated = p2pkit("evaluate", runs[0], "--split", "val", "--json").json
    assert evaluated["coverage"] == pytest.approx(expected, abs=1e-6)
    assert evaluated["rows"]["model"]["mae"] == pytest.approx(measured["validation/mae"], abs=1e-6)


def test_fill_makes_no_difference_to_what_does_not_count(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    settings = [setting.format(root=heights(tmp_path / "heights", np.nan)) for setting in HEIGHTS]
    settings += ['target.nodata="nan"', 'target.mask="nodata"', *L1_ALONE]
    runs = [train(p2pkit, recipe, tmp_path / str(fill), *settings, f"target.fill={fill}") for fill in (0, 2000)]
    assert same(*runs)
    unmasked = [setting for setting in settings if "target.mask" not in setting]
    runs = [train(p2pkit, recipe, tmp_path / f"no{fill}", *unmasked, f"target.fill={fill}") for fill in (0, 2000)]
    assert not same(*runs)
