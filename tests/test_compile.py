"""Compiled networks: the same run but for rounding, the same files, and what is said where nothing can be compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.conftest import Call, train

COMPILED = "train.compile=true"
SLOWLY = ("optimizer.name=sgd", "optimizer.lr=0.001")
"""By Adam, rounding would decide where a weight goes whose gradient is next to nothing."""
RUNS = {
    "dropout, batch norm and EMA": ("generator.dropout=0.5", "train.ema_decay=0.9"),
    "instance norm, one pair": ('generator.norm="instance"', 'discriminator.norm="instance"', "loader.batch_size=1"),
    "resnet": ('generator={name="resnet", width=4, blocks=1}',),
    "checkpointing": ("train.activation_checkpointing=true",),
    "augmentation, spectral norm": (
        'discriminator_augmentation={policy=["colour", "cutout"]}', "discriminator.spectral_norm=true",
    ),
    "in parts": ("train.accumulate=2",),
    "bf16": ('train.precision="bf16"',),
}  # fmt: skip


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[nn.Module]]:
    """Networks are traced, forwards and backwards, as always, and run without a compiler, which would take minutes."""
    compiled, found = nn.Module.compile, list[nn.Module]()

    def in_place(network: nn.Module, **_: object) -> None:
        found.append(network)
        compiled(network, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", in_place)
    torch.compiler.reset()
    yield found


def assert_alike(one: Path, other: Path, within: float) -> None:
    weights, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.allclose(value, others[name], rtol=within, atol=within), name


@pytest.mark.parametrize(
    "settings", [name if index < 2 else pytest.param(name, marks=pytest.mark.slow) for index, name in enumerate(RUNS)]
)
def test_a_run_ends_with_the_same_weights_but_for_rounding(
    settings: str, p2pkit: Call, recipe: Path, tmp_path: Path, traced: list[nn.Module]
) -> None:
    plain = train(p2pkit, recipe, tmp_path / "plain", *SLOWLY, *RUNS[settings])
    assert not traced
    compiled = train(p2pkit, recipe, tmp_path / "compiled", *SLOWLY, *RUNS[settings], COMPILED)
    assert len(traced) == 2 and all(network._compiled_call_impl is not None for network in traced)
    assert_alike(plain, compiled, 1e-2 if settings == "bf16" else 1e-5)


def test_a_resumed_run_ends_in_the_same_bytes(
    p2pkit: Call, recipe: Path, tmp_path: Path, traced: list[nn.Module]
) -> None:
    settings = ("generator.dropout=0.5", "train.ema_decay=0.9", COMPILED)
    alone = train(p2pkit, recipe, tmp_path / "alone", *settings)
    begun = train(p2pkit, recipe, tmp_path / "begun", *settings, "train.max_steps=2")
    assert p2pkit("run", "--resume", begun, "--set", "train.max_steps=4").code == 0
    assert (alone / "model.safetensors").read_bytes() == (begun / "model.safetensors").read_bytes()


def test_a_loss_of_gradients_is_refused(p2pkit: Call, recipe: Path, tmp_path: Path, traced: list[nn.Module]) -> None:
    losses = 'losses=[{name="gan"}, {name="r1"}, {name="l1"}]'
    outcome = p2pkit("run", recipe, "--set", losses, "--set", COMPILED, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "train.compile: PyTorch has no second derivative of compiled networks" in outcome.err


def test_networks_are_not_compiled_without_a_compiler(recipe: Path, tmp_path: Path) -> None:
    words = (sys.executable, "-m", "p2pkit", "run", recipe, "--set", COMPILED, "--out", tmp_path / "run")
    lacking = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ended = subprocess.run(
        list(map(str, words)), env={**os.environ, **lacking}, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert "NOTICE: train.compile: the networks are not compiled, which cannot be done here: " in ended.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
def test_compiled_by_a_compiler(p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path) -> None:
    settings = (*SLOWLY, "generator.dropout=0.5")
    plain = train(p2pkit, recipe, tmp_path / "plain", *settings)
    compiled = train(p2pkit, recipe, tmp_path / "compiled", *settings, COMPILED)
    assert_alike(plain, compiled, 1e-5)
    assert p2pkit("translate", compiled, pairs / "test", "--out", tmp_path / "out").code == 0
    assert p2pkit("export", compiled, "--out", tmp_path / "model.onnx", "--format", "onnx").code == 0
