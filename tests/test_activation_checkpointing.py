"""Activations that are computed again take less memory, and change nothing else."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.training.activation_checkpointing import checkpoint_activations
from tests.conftest import Call, train

WITH = "train.activation_checkpointing=true"
RUNS = {
    "dropout, batch norm and EMA": ("generator.dropout=0.5", "train.ema_decay=0.9"),
    "spectral norm, in parts": ("discriminator.spectral_norm=true", "train.accumulate=2"),
    "gradients of gradients": ('losses=[{name="gan"}, {name="r1"}, {name="l1"}]',),
    "resnet": ('generator={name="resnet", width=4, blocks=2}',),
    "bf16": ('train.precision="bf16"',),
}


def saved_bytes(network: nn.Module, *images: Tensor) -> int:
    """What a pass keeps until the one backwards, but for parameters."""
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(value: Tensor) -> Tensor:
        if value.data_ptr() not in own:
            kept[value.data_ptr()] = value.numel() * value.element_size()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        output = network(*images)
    output.sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("settings", RUNS)
def test_a_run_ends_with_the_same_weights(settings: str, p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    ends: list[Mapping[str, Tensor]] = []
    for name, more in (("plain", ()), ("checkpointed", (WITH,))):
        run = train(p2pkit, recipe, tmp_path / name, *RUNS[settings], *more)
        networks = load_file(max(run.glob("checkpoints/*")) / "networks.safetensors")
        ends.append({**networks, **load_file(run / "model.safetensors")})
    plain, checkpointed = ends
    assert plain.keys() == checkpointed.keys() and len(plain) > 20
    assert all(torch.equal(value, checkpointed[name]) for name, value in plain.items())


def test_a_checkpointed_run_is_resumed_with_and_without(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    whole = train(p2pkit, recipe, tmp_path / "whole")
    train(p2pkit, recipe, tmp_path / "half", WITH, "train.max_steps=2")
    outcome = p2pkit("run", "--resume", tmp_path / "half", "--set", "train.max_steps=4")
    assert outcome.code == 0, outcome.err
    found, expected = (load_file(run / "model.safetensors") for run in (tmp_path / "half", whole))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(
    ("kind", "name", "share"),
    [("generators", "unet", 0.7), ("generators", "resnet", 0.4), ("discriminators", "patchgan", 0.7)],
)
def test_less_is_kept(kind: str, name: str, share: float, norm: str) -> None:
    options: dict[str, Any] = {"width": 8, "norm": norm, **({"depth": 5} if name == "unet" else {})}
    plain = create(kind, name, source_channels=3, target_channels=3, **options)
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations([checkpointed])
    images = [torch.rand(1, 3, 64, 64) for _ in range(1 if kind == "generators" else 2)]
    kept = []
    for network in (plain, checkpointed):
        torch.manual_seed(0)
        kept.append(saved_bytes(network, *images))
    assert kept[1] < share * kept[0]
    for (key, found), expected in zip(checkpointed.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(found, expected), key
    for mine, theirs in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None and torch.equal(mine.grad, theirs.grad)


def test_networks_without_a_sequence_are_refused() -> None:
    with pytest.raises(ValueError, match="no network has its layers in a"):
        checkpoint_activations([nn.Conv2d(3, 3, 3)])
