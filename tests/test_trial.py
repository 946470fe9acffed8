"""The trial before a run: what does not do what its kind is for is one sentence, and no run folder is made."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from p2pkit.components.kinds import SINGULAR
from tests.conftest import Call, Outcome, distribution, lines, train

NETWORK = """
class Odd(nn.Module):
    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(source_channels, target_channels, 3, padding=1)

    def forward(self, source):
        return {made}
"""
DISCRIMINATOR = """
class Odd(nn.Module):
    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(source_channels + target_channels, 1, 3)

    def forward(self, source, image):
        return self.layer(torch.cat({given}))
"""
LOSS = """
class Odd:
    def generator_loss(self, step):
        return {term}
"""
WITHOUT_PART = """
    def discriminator_loss(self, step):
        return {term}
"""
METRIC = """
class Odd:
    higher_is_better = False

    seen = 0

    def update(self, output, target):
        self.seen += 1
        self.error = (output - target).abs()

    def compute(self):
        return {result}

    def reset(self):
        self.error = None
"""
METHOD = """
class Odd:
    networks = ("generator", "discriminator")

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: list) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses

    def train_step(self, batch, update):
        fake = self.generator(batch.source)
        {step}
"""
MEAN, DIFFERENCES = "(step.fake - step.target).abs().mean()", "(step.fake - step.target).abs().mean(dim=(1, 2, 3))"
IN_BATCH = "a batch of 2 training images of 16x16"
SCALAR, MEAN_OF_IT = "expected a scalar tensor, or None", "expected a scalar: take its mean"

LOSSES = {
    "no scalar for the generator": (
        LOSS.format(term=DIFFERENCES) + WITHOUT_PART.format(term="None"),
        f": generator_loss gives a tensor [2] for {IN_BATCH}; {MEAN_OF_IT}",
    ),
    "no scalar for the discriminator": (
        LOSS.format(term=MEAN) + WITHOUT_PART.format(term=DIFFERENCES),
        f": discriminator_loss gives a tensor [2] for {IN_BATCH}; {MEAN_OF_IT}",
    ),
    "no tensor": (
        LOSS.format(term="0.5") + WITHOUT_PART.format(term="None"),
        f": generator_loss gives a float for {IN_BATCH}; {SCALAR}",
    ),
    "it knows single images only": (
        LOSS.format(term="step.fake.view(3, 16, 16).mean()") + WITHOUT_PART.format(term="None"),
        f" fails on {IN_BATCH}: RuntimeError: shape '[3, 16, 16]' is invalid for input of size 1536; {SCALAR}",
    ),
    "no term at all": (
        LOSS.format(term=MEAN).replace("generator_loss", "loss"),
        ": Odd has neither generator_loss(step) nor discriminator_loss(step), and is",
    ),
    "a function that gives no scalar": (
        "class Odd(nn.Module):\n    def forward(self, output, target):\n        return (output - target).abs()",
        f" gives a tensor [2, 3, 16, 16] for {IN_BATCH}; {MEAN_OF_IT}",
    ),
}
METRICS = {
    "compute raises": (METRIC.format(result="1 / (self.seen - 1)"), ": compute() fails: ZeroDivisionError: "),
    "no number": (METRIC.format(result="self.error"), ": compute() gives a tensor [1, 3, 16, 16] as 'odd'"),
    "a number is a text": (METRIC.format(result="{'odd': '0.5'}"), ": compute() gives '0.5' as 'odd'"),
    "another's name": (METRIC.format(result="{'mae': 0.5}"), " gives 'mae', as another metric does"),
    "no update": (
        METRIC.format(result="0.0").replace("def update", "def add"),
        " has no update; expected torchmetrics'",
    ),
    "no reset": (
        METRIC.format(result="0.0").replace("def reset", "def begin"),
        " has no reset; expected torchmetrics'",
    ),
    "no direction": (METRIC.format(result="0.0").replace("higher", "greater"), " has no higher_is_better; expected "),
    "update fails": (
        METRIC.format(result="0.0").replace("output - target", "output - None"),
        " fails on images 1x3x16x16: TypeError: unsupported operand",
    ),
}
NETWORKS = {
    "half the size": (
        "generators",
        NETWORK.format(made="self.layer(source)[:, :, ::2, ::2]"),
        " gives 3x8x8 where 3x16x16 is expected",
    ),
    "one image": ("generators", NETWORK.format(made="self.layer(source)[:1]"), "expected"),
    "the generator fails": (
        "generators",
        NETWORK.format(made="self.layer(source[:, :2])"),
        f" fails on {IN_BATCH}: RuntimeError: ",
    ),
    "the discriminator fails": (
        "discriminators",
        DISCRIMINATOR.format(given="[source, image]"),  # one below another
        f" fails on {IN_BATCH}: RuntimeError: ",
    ),
    "the step fails": ("methods", METHOD.format(step="batch.images"), f" fails on {IN_BATCH}: AttributeError: "),
    "a term is no scalar": (
        "methods",
        METHOD.format(step="update('generator', {'odd': (fake - batch.target).abs().mean(dim=(1, 2, 3))})"),
        f" fails on {IN_BATCH}: ValueError: the term 'odd' is not a scalar tensor; expected ",
    ),
}
TABLES = {
    "losses": 'losses=[{name = "l1"}, {name = "odd"}]',
    "metrics": 'metrics=[{name = "mae"}, {name = "odd"}]',
    "generators": "generator.name=odd",
    "discriminators": "discriminator.name=odd",
    "methods": "method.name=odd",
}


def refused(
    command: str, kind: str, code: str, p2pkit: Call, recipe: Path, folder: Path, patch: pytest.MonkeyPatch
) -> Outcome:
    """How ``command`` ends for a recipe whose ``kind`` is the component Odd of p2pkit-odd 0.4."""
    plugins = distribution(folder / "plugins", "p2pkit-odd", "0.4", {"odd": "plugin_odd"})
    offer = f'\n@p2pkit.hookimpl\ndef register_{kind}(register):\n    register("odd", Odd)\n'
    (plugins / "plugin_odd.py").write_text(f"import p2pkit\nimport torch\nfrom torch import nn\n{code}\n{offer}")
    patch.setattr(sys, "path", list(sys.path))
    out = ("--out", folder / "run") if command == "run" else ()
    return p2pkit("--plugins-dir", plugins, command, recipe, *out, "--set", TABLES[kind])


def assert_one_sentence(outcome: Outcome, singular: str, reason: str) -> None:
    assert outcome.code == 2, outcome.err
    said = outcome.said
    assert len(said) == 1, outcome.err
    assert said[0].startswith(f"Error: {singular} 'odd' of p2pkit-odd 0.4"), outcome.err
    assert reason in said[0], outcome.err


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("mistake", LOSSES | METRICS)
def test_losses_and_metrics(
    mistake: str, command: str, p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "losses" if mistake in LOSSES else "metrics"
    code, reason = (LOSSES | METRICS)[mistake]
    outcome = refused(command, kind, code, p2pkit, recipe, tmp_path, monkeypatch)
    assert_one_sentence(outcome, SINGULAR[kind], reason)
    assert not (tmp_path / "run").exists()


def test_a_metric_that_fails_after_training_loses_nothing(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2, 8):
        shutil.copy(recipe.parent / "pairs/test/0.png", recipe.parent / f"pairs/test/{index}.png")
    code = METRIC.format(result="1 / (self.seen % 6)")  # well for a few images, and not for six
    outcome = refused("run", "metrics", code, p2pkit, recipe, tmp_path, monkeypatch)
    assert outcome.code == 2, outcome.err
    said = "metric 'odd' of p2pkit-odd 0.4: compute() fails: ZeroDivisionError: "
    assert said in outcome.err and "Traceback" not in outcome.err
    mended = (tmp_path / "plugins/plugin_odd.py").read_text().replace("1 / (self.seen % 6)", "0.5")
    (tmp_path / "plugins/plugin_odd.py").write_text(mended)
    monkeypatch.delitem(sys.modules, "plugin_odd")
    resumed = p2pkit("--plugins-dir", tmp_path / "plugins", "run", "--resume", tmp_path / "run")
    assert resumed.code == 0, resumed.err
    assert lines(tmp_path / "run")[-1]["validation/odd"] == 0.5


@pytest.mark.parametrize("mistake", NETWORKS)
def test_networks_and_methods(
    mistake: str, p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, code, reason = NETWORKS[mistake]
    outcome = refused("run", kind, code, p2pkit, recipe, tmp_path, monkeypatch)
    assert_one_sentence(outcome, SINGULAR[kind], reason)
    assert not (tmp_path / "run").exists()


def test_it_leaves_no_trace(p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("train.max_steps=3", "generator.norm=batch", "discriminator.norm=batch")
    spectral = ("discriminator.spectral_norm=true", "generator.dropout=0.5")
    tried = train(p2pkit, recipe, tmp_path / "tried", *settings, *spectral)
    left_out: list[object] = []
    monkeypatch.setattr("p2pkit.training.trial.try_training", lambda *given, **_: left_out.append(given))
    monkeypatch.setattr("p2pkit.runs.try_training", lambda *given, **_: left_out.append(given))
    untried = train(p2pkit, recipe, tmp_path / "untried", *settings, *spectral)
    assert left_out
    one, other = (load_file(run / "checkpoints/step_00000003/networks.safetensors") for run in (tried, untried))
    assert any("running_mean" in name for name in one) and any("_u" in name for name in one)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert lines(tried) == lines(untried)
