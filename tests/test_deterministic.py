"""Algorithms that give the same bits each time: asked for while a run lasts, and refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import p2pkit as package
from tests.conftest import Call, distribution

PUTTING = '''
import p2pkit


@p2pkit.hookimpl
def register_losses(register):
    import torch

    class Put(torch.autograd.Function):
        """Takes a mean, and puts its slope into place."""

        @staticmethod
        def forward(ctx, values):
            ctx.shape = values.shape
            return values.mean()

        @staticmethod
        def backward(ctx, slope):
            slopes = torch.zeros(ctx.shape)
            return slopes.put_(torch.arange(slopes.numel()), slope.expand(slopes.numel()) / slopes.numel())

    register("putting", lambda: lambda output, target: Put.apply((output - target).abs()))
'''


class Noting:
    """Notes at each step whether deterministic algorithms are asked for."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def on_step_end(self, run: Any) -> None:
        self.asked.append(torch.are_deterministic_algorithms_enabled())


@pytest.mark.parametrize("wanted", [True, False])
def test_they_are_asked_for_while_a_run_lasts(wanted: bool, recipe: Path, tmp_path: Path) -> None:
    noting = Noting()
    package.train(recipe, {"train.deterministic": wanted}, tmp_path / "run", callbacks=[noting])
    assert noting.asked == 4 * [wanted]
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_has_no_such_algorithm_is_named(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    folder = distribution(tmp_path / "plugins", "p2pkit-putting", "1.0", {"putting": "p2pkit_putting"})
    (folder / "p2pkit_putting.py").write_text(PUTTING)
    command = ("--plugins-dir", folder, "run", recipe, "--set", 'losses=[{name="gan"}, {name="putting"}]', "--set")
    outcome = p2pkit(*command, "train.deterministic=true", "--out", tmp_path / "run")
    assert outcome.code == 2, outcome.err
    assert "train.deterministic: PyTorch has no such algorithm for put_, which a step takes; leave" in outcome.err
    assert p2pkit(*command, "train.deterministic=false", "--out", tmp_path / "run").code == 0
