"""Every loss in a recipe: it trains, resumes exactly where it was, and means the same in several processes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import p2pkit as library
from p2pkit.testing import components_of
from tests.conftest import Call, distribution, lines, train
from tests.test_many_processes import WITHOUT_STATISTICS, launch

# each beside what trains the other network
WASSERSTEIN = 'losses=[{name = "wgan_gp"}, {name = "l1", weight = 100}]'
PENALISED = 'losses=[{name = "gan"}, {name = "r1", weight = 10}, {name = "charbonnier", weight = 100}]'
MATCHED = 'losses=[{name = "hinge"}, {name = "feature_matching", weight = 10}]'
STRUCTURED = 'losses=[{name = "lsgan"}, {name = "ssim", weight = 10}, {name = "total_variation"}, {name = "l2"}]'
SPECTRAL = ("discriminator.spectral_norm=true", "discriminator.norm=instance")
LOSSES = (WASSERSTEIN, PENALISED, MATCHED, STRUCTURED)


def test_no_loss_is_skipped() -> None:
    known = [name for kind, name in components_of("p2pkit") if kind == "losses"]
    elsewhere = ["perceptual"]  # tests/test_timm_frozen.py
    assert [name for name in known if f'"{name}"' not in "".join(LOSSES)] == elsewhere


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("settings", [("train.precision=bf16",), ("loader.batch_size=1", *SPECTRAL)], ids="-".join)
def test_training(losses: str, settings: tuple[str, ...], p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", losses, *settings)
    *trained, _ = lines(run)
    terms = {key: value for line in trained for key, value in line.items() if "/" in key}
    assert len(trained) == 4 and all(math.isfinite(value) for value in terms.values())
    for name in library.components("losses"):
        if f'"{name}"' in losses:
            assert f"generator/{name}" in terms or f"discriminator/{name}" in terms


@pytest.mark.parametrize("losses", [WASSERSTEIN, PENALISED, MATCHED])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    losses: str, p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    whole = train(p2pkit, recipe, tmp_path / "whole", losses, *SPECTRAL)
    cut = shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(cut / "checkpoints" / "step_00000004")
    resumed = p2pkit("run", "--resume", cut)
    assert resumed.code == 0 and "resuming from step 2" in resumed.err
    for file in ("networks.safetensors", "optimizers.safetensors"):
        one, other = (run / "checkpoints" / "step_00000004" / file for run in (whole, cut))
        assert one.read_bytes() == other.read_bytes()


def test_two_processes_give_the_networks_of_one(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    # of such a weight that a penalty which processes did not share would show
    losses = 'losses=[{name = "hinge"}, {name = "r1", weight = 1000}, {name = "feature_matching", weight = 10}]'
    # and at a rate by which rounding does not grow, as it does with such a penalty
    given = (losses, *WITHOUT_STATISTICS, *SPECTRAL, "optimizer.lr=0.0001")
    settings = [part for setting in given for part in ("--set", setting)]
    assert p2pkit("run", recipe, "--out", tmp_path / "one", *settings, "--device", "cpu").code == 0
    running = launch("run", recipe, "--out", tmp_path / "two", *settings)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    one, two = (
        load_file(tmp_path / run / "checkpoints" / "step_00000004" / "networks.safetensors") for run in ("one", "two")
    )
    assert any(key.endswith("parametrizations.weight.0._u") for key in one)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_wasserstein_loss_trains_in_two_processes(recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", WASSERSTEIN, "--set", "discriminator.norm=instance")
    running = launch("run", recipe, "--out", tmp_path / "run", *settings)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    *trained, _ = lines(tmp_path / "run")
    assert [line["step"] for line in trained] == [1, 2, 3, 4]
    assert all(math.isfinite(line["discriminator/wgan_gp"]) for line in trained)


WITHOUT_FEATURES = """
import p2pkit


@p2pkit.hookimpl
def register_discriminators(register):
    from torch import Tensor, nn

    class Plain(nn.Module):
        def __init__(self, target_channels: int) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(target_channels, 1, 3)

        def forward(self, source: Tensor, image: Tensor) -> Tensor:
            return self.convolution(image)

    register("plain", Plain)
"""


def test_matching_features_that_there_are_not(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    plugins = distribution(tmp_path / "plugins", "p2pkit-plain", "0.1", {"plain": "p2pkit_plain"})
    (plugins / "p2pkit_plain.py").write_text(WITHOUT_FEATURES)
    recipe.write_text(recipe.read_text().replace('name = "patchgan_16"\nwidth = 4', 'name = "plain"'))
    outcome = p2pkit("--plugins-dir", plugins, "run", recipe, "--out", tmp_path / "run", "--set", MATCHED)
    assert outcome.code == 2
    assert 'this discriminator gives none; choose one that does, such as "patchgan_70"' in outcome.err
