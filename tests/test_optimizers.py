"""Optimizers and schedules as components: what recipes say of them, and what becomes of it in a run."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch

from p2pkit.components.registry import Registered
from p2pkit.components.signature import parameters_model
from p2pkit.errors import RecipeError
from p2pkit.testing import check_component
from p2pkit.training.prepare import try_optimizer
from tests.conftest import Call, distribution, lines, train

ODD = '''
import p2pkit
import torch


class Hoarder(torch.optim.SGD):
    """Keeps what no checkpoint without pickle can hold."""

    def __init__(self, params, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)

    def step(self, closure=None) -> None:
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["seen"] = {1, 2}


def nothing(params, lr: float = 0.1) -> None:
    """Makes none."""


def wild(position) -> float:
    return -1.0


@p2pkit.hookimpl
def register_optimizers(register):
    register("hoarder", Hoarder)
    register("nothing", nothing)


@p2pkit.hookimpl
def register_schedules(register):
    register("wild", lambda: wild)
'''


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder for --plugins-dir with these."""
    folder = distribution(tmp_path / "plugins", "odd-ones", "0.7", {"odd": "odd_ones"})
    (folder / "odd_ones.py").write_text(ODD)
    return folder


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            "optimizer.name=hoarder",
            "optimizer.name: optimizer 'hoarder' of odd-ones 0.7 cannot be used here (TypeError: ",
        ),
        (
            "optimizer.generator.name=nothing",
            "'nothing' of odd-ones 0.7 cannot be used here (TypeError: found a NoneType",
        ),
        (
            "schedule.name=wild",
            "schedule 'wild' of odd-ones 0.7 gives -1.0 at 0% of a run, expected a number of at least 0",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_check_and_run(
    setting: str, complaint: str, odd: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    for command in (("check", recipe), ("run", recipe, "--out", tmp_path / "run")):
        refused = p2pkit("--plugins-dir", odd, *command, "--set", setting)
        assert refused.code == 2 and complaint in refused.err and "Traceback" not in refused.err
    assert not (tmp_path / "run").exists()


def test_a_network_with_another_optimizer_takes_the_keys_that_it_has(recipe: Path, p2pkit: Call) -> None:
    recipe.write_text(
        recipe.read_text()
        + """
[optimizer]
lr = 1e-3
betas = [0.9, 0.99]
clip_gradient_norm = 2.0

[optimizer.discriminator]
name = "sgd"
momentum = 0.5
"""
    )
    for _ in range(2):  # as it is written, and as it is shown in full
        shown = p2pkit("show", recipe)
        assert shown.code == 0, shown.err
        table = tomllib.loads(shown.out)["optimizer"]
        own = {"name": "sgd", "lr": 1e-3, "momentum": 0.5, "weight_decay": 0.0, "clip_gradient_norm": 2.0}
        assert table.pop("discriminator") == own
        assert table == {
            "name": "adam", "lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0.0, "clip_gradient_norm": 2.0,
        }  # fmt: skip
        recipe.write_text(shown.out)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("optimizer.betas=[0.9, 0.9]", "optimizer.betas: unknown key; allowed: clip_gradient_norm, lr, momentum"),
        ("optimizer.clip_gradient_nrom=1", "did you mean 'clip_gradient_norm'?"),
        ("schedule.decay_from=1", "schedule.decay_from: found 1, expected a float from 0 to below 1"),
        ("schedule.warmup=-1", "schedule.warmup: found -1, expected a whole number from 0 on"),
        ("optimizer=3", "optimizer: found 3, expected a table with a name"),
        ("losses.0.weight=-1", "losses.0.weight: found -1, expected a float from 0 on"),
    ],
)
def test_keys_that_do_not_fit_are_refused(setting: str, complaint: str, recipe: Path, p2pkit: Call) -> None:
    base = ("--set", "optimizer.name=sgd", "--set", "schedule.name=cosine")
    refused = p2pkit("show", recipe, *base, "--set", setting)
    assert refused.code == 2 and complaint in refused.err, refused.err


def test_warmup_goes_with_every_schedule(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    settings = ("schedule.name=step", "schedule.milestones=[1]", "schedule.gamma=0.5", "schedule.warmup=2")
    run = train(p2pkit, recipe, tmp_path / "run", *settings, "optimizer.lr=1e-3")
    # an epoch has three steps
    assert [line["generator/lr"] for line in lines(run)[:4]] == [5e-4, 1e-3, 1e-3, 5e-4]


def test_the_keys_of_a_kind_are_shown_with_each_component(p2pkit: Call) -> None:
    schema = json.dumps(p2pkit("schema").json)
    for name, key in (("lion", "clip_gradient_norm"), ("cosine", "warmup"), ("ssim", "weight")):
        found = p2pkit("components", name, "--json").json  # a loss and a metric may have one name
        (described,) = [each for one in found for each in one["parameters"] if each["name"] == key]
        assert described["help"] and not described["required"]
        assert key in schema


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_pytorchs_own_optimizers_are_components_as_they_are(optimizer: type[torch.optim.Optimizer]) -> None:
    check_component("optimizers", optimizer)


@pytest.mark.parametrize("optimizer", [torch.optim.LBFGS, torch.optim.SparseAdam])
def test_an_optimizer_that_takes_no_plain_step_is_refused(optimizer: type[torch.optim.Optimizer]) -> None:
    with pytest.raises(RecipeError, match="optimizer 'odd' cannot be used here"):
        try_optimizer(optimizer, "optimizer 'odd'")


def test_a_default_that_toml_cannot_hold_is_no_parameter() -> None:
    # eps is (None, 0.001)
    keys = parameters_model(Registered("one", torch.optim.Adafactor, "odd", "1"), "optimizers").model_fields
    assert "eps" not in keys and "beta2_decay" in keys
