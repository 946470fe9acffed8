"""Methods with more than two networks and generators with latents: what a plugin may do beyond pix2pix."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import p2pkit as library
from p2pkit.components.host import configure
from p2pkit.inference.policy import Policy, infer
from p2pkit.testing import check_component
from tests.conftest import Call, distribution, lines, train

PLUGIN = '''
import torch
from torch import nn
import p2pkit
from p2pkit.contracts import Batch, Update
from p2pkit.networks.latent import Latent
from p2pkit.training.step import StepContext, unwrap_model, discriminator_losses, frozen, generator_losses

class Noisy(nn.Module):
    """A pixel plus a latent."""
    def __init__(self, source_channels: int, target_channels: int, size: int = 3) -> None:
        super().__init__()
        self.latent, self.mixed = Latent(size), nn.Conv2d(source_channels + size, target_channels, 1)
    def forward(self, source, latent=None):
        latent = self.latent(source) if latent is None else latent
        spread = latent[:, :, None, None].expand(-1, -1, *source.shape[2:])
        return self.mixed(torch.cat([source, spread], dim=1)).tanh()

class Twofold:
    """Two discriminators and an encoder beside the generator."""
    networks = ("generator", "encoder", "discriminator", "second")
    def __init__(
        self, generator, discriminator, make_discriminator, losses, target_channels: int, fixed_until: float = 0.0
    ) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses
        self.fixed_until = fixed_until
        self.second = make_discriminator()
        self.encoder = nn.Linear(target_channels, unwrap_model(generator).latent.size)
    def on_train_start(self) -> None:
        print("begins")
        nn.init.constant_(unwrap_model(self.encoder).weight, 0.125)
    def train_step(self, batch: Batch, update: Update) -> None:
        print("progress", round(update.progress, 3))
        fake = self.generator(batch.source, self.encoder(batch.target.mean(dim=(2, 3))))
        for name in ("discriminator", "second"):
            seen = StepContext(batch.source, batch.target, fake.detach(), getattr(self, name))
            update(name, discriminator_losses(self.losses, seen))
        with frozen(self.discriminator):
            seen = StepContext(batch.source, batch.target, fake, self.discriminator)
            fixed = unwrap_model(self.encoder).parameters() if update.progress < self.fixed_until else ()
            update(("generator", "encoder"), generator_losses(self.losses, seen), fixed)

@p2pkit.hookimpl
def register_generators(register):
    register("noisy", Noisy)

@p2pkit.hookimpl
def register_methods(register):
    register("twofold", Twofold)
'''
SETTINGS = ('method.name="twofold"', 'generator.name="noisy"', "optimizer.encoder.lr=0.01")


@pytest.fixture
def twofold(tmp_path: Path, recipe: Path, p2pkit: Call) -> Iterator[Path]:
    """A recipe of a method with four networks, whose plugin is there."""
    folder = distribution(tmp_path / "plugins", "p2pkit-twofold", "2.0", {"twofold": "p2pkit_twofold"})
    (folder / "p2pkit_twofold").mkdir()
    (folder / "p2pkit_twofold/__init__.py").write_text(PLUGIN)
    (folder / "p2pkit_twofold/recipes").mkdir()
    (folder / "p2pkit_twofold/recipes/small.toml").write_text(
        recipe.read_text().replace("[generator]\ndepth = 3\nwidth = 4\n", '[generator]\nname = "noisy"\n')
        + '[method]\nname = "twofold"\n[optimizer.encoder]\nlr = 0.01\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        configure()
        yield recipe


def test_four_networks_train_and_resume_exactly(twofold: Path, tmp_path: Path, p2pkit: Call) -> None:
    whole = train(p2pkit, Path("twofold:small"), tmp_path / "whole")
    half = train(p2pkit, Path("twofold:small"), tmp_path / "half", "train.max_steps=2")
    resumed = p2pkit("run", "--resume", half, "--set", "train.max_steps=4")
    assert "progress 0.75" in resumed.out and "progress 0.25" not in resumed.out
    assert "begins" not in resumed.out
    for file in ("model.safetensors", "checkpoints/step_00000004/networks.safetensors"):
        assert (half / file).read_bytes() == (whole / file).read_bytes()
    metrics = lines(whole)[-2]
    assert {"generator/l1", "discriminator/gan", "second/gan", "encoder/lr"} <= metrics.keys()
    assert metrics["encoder/lr"] == 0.01
    named = json.loads(p2pkit("inspect", whole, "--json").out)
    assert (named["generator"], named["distribution"]) == ("noisy", "p2pkit-twofold")


def test_both_discriminators_have_weights_of_their_own_and_all_networks_learn(
    twofold: Path, tmp_path: Path, p2pkit: Call
) -> None:
    one, four = (
        load_file(run / f"checkpoints/step_0000000{steps}/networks.safetensors")
        for steps in (1, 4)
        for run in [train(p2pkit, Path("twofold:small"), tmp_path / str(steps), f"train.max_steps={steps}")]
    )
    for network in ("generator", "encoder", "discriminator", "second"):
        assert any((one[name] != four[name]).any() for name in one if name.startswith(f"{network}|")), network
    weights = {name.partition("|")[2]: name for name in one if name.startswith("second|") and "weight" in name}
    assert any((one[f"discriminator|{name}"] != one[f"second|{name}"]).any() for name in weights)


def test_fixed_parameters_stay_as_they_are_and_the_optimizer_knows_nothing_of_them(
    twofold: Path, tmp_path: Path, p2pkit: Call
) -> None:
    fixed = ("method.fixed_until=0.5", "optimizer.encoder.name=adamw", "optimizer.encoder.weight_decay=0.1")
    run = train(
        p2pkit, Path("twofold:small"), tmp_path / "run", *fixed, "train.max_steps=8", "train.keep_checkpoints=9"
    )
    weights, moments = (
        [load_file(run / f"checkpoints/step_0000000{step}/{file}.safetensors") for step in (2, 4, 8)]
        for file in ("networks", "optimizers")
    )
    encoder = "encoder|weight"
    assert (weights[0][encoder] == 0.125).all() and (weights[1][encoder] == 0.125).all()  # as the method begins
    assert not np.array_equal(weights[1][encoder], weights[2][encoder])
    assert not np.array_equal(weights[0]["generator|mixed.weight"], weights[1]["generator|mixed.weight"])
    assert not [name for name in moments[1] if name.startswith("encoder|")]
    assert float(moments[2][f"{encoder}|step"]) == 4  # a moment that counted from the run's beginning would be biased
    whole = (run / "model.safetensors").read_bytes()
    for step in (4, 6, 8):
        shutil.rmtree(run / f"checkpoints/step_0000000{step}")
    assert p2pkit("run", "--resume", run).code == 0
    assert (run / "model.safetensors").read_bytes() == whole


def test_latents_follow_the_seed_and_samples_differ(twofold: Path, tmp_path: Path, p2pkit: Call, pairs: Path) -> None:
    run = train(p2pkit, Path("twofold:small"), tmp_path / "run")
    source = next((pairs / "test").iterdir())
    for folder in ("a", "b"):
        assert p2pkit("translate", run, source, "--out", tmp_path / folder, "--samples", "3").code == 0
    images = [np.asarray(Image.open(tmp_path / "a" / f"{source.stem}_{sample}.png")) for sample in range(3)]
    again = [np.asarray(Image.open(tmp_path / "b" / f"{source.stem}_{sample}.png")) for sample in range(3)]
    assert all(np.array_equal(one, other) for one, other in zip(images, again, strict=True))
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[1], images[2])
    mean = library.load_model(run, "cpu", dropout=False)
    pixels = np.asarray(Image.open(source))
    assert np.array_equal(mean(pixels, seed=1), mean(pixels, seed=2))
    tiled = library.load_model(run, "cpu")(pixels, tile=16, overlap=4)
    whole = library.load_model(run, "cpu")(pixels, size="native")
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= 1


@pytest.mark.parametrize("noise", [[], ["--dropout"]])
def test_a_generator_with_a_latent_exports(noise: list[str], twofold: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, Path("twofold:small"), tmp_path / "run")
    outcome = p2pkit("export", run, "--out", tmp_path / "model.onnx", *noise)
    assert outcome.code == 0, outcome.err
    import onnx

    about = json.loads(onnx.load(tmp_path / "model.onnx").metadata_props[0].value)
    assert about["noise"] == ([{"name": "noise_0", "of": "latent", "layer": 1, "values": 3}] if noise else [])


def test_recipes_of_plugins_go_by_name(twofold: Path, tmp_path: Path, p2pkit: Call) -> None:
    assert "recipe twofold:small" in p2pkit("plugins").out
    checked = p2pkit("check", "twofold:small")
    assert checked.code == 0 and "encoder of twofold: 0.000 M parameters" in checked.out
    child = tmp_path / "child.toml"
    child.write_text('extends = "twofold:small"\n[train]\nmax_steps = 1\n')
    assert 'name = "twofold"' in p2pkit("show", child).out
    assert "did you mean 'twofold'" in p2pkit("check", "twofald:small").err
    wrong = p2pkit("check", "twofold:smal")
    assert wrong.code == 2 and "did you mean 'small'" in wrong.err


def test_a_step_of_four_networks_that_is_no_number_is_replayed(twofold: Path, tmp_path: Path, p2pkit: Call) -> None:
    outcome = p2pkit("run", "twofold:small", "--out", tmp_path / "run", "--set", "optimizer.encoder.lr=1e38")
    assert (outcome.code == 2 and "not a finite number" in outcome.err) or "not finite" in outcome.err
    (left,) = (tmp_path / "run/not_finite").iterdir()
    replayed = p2pkit("replay", left)
    assert replayed.code == 0, replayed.err
    assert "gradient of the encoder" in replayed.out


def test_translating_with_a_latent_leaves_the_random_state(twofold: Path) -> None:
    generator = library.create("generators", "noisy", source_channels=3, target_channels=3)
    before = torch.get_rng_state()
    infer(generator, torch.zeros(2, 3, 4, 4), Policy(), [1, 2])
    assert torch.equal(before, torch.get_rng_state())
    assert generator.training and not torch.equal(generator.latent(torch.zeros(1, 3, 4, 4)), torch.zeros(1, 3))


def test_both_keep_the_promises_of_their_kinds(twofold: Path) -> None:
    check_component("generators", "noisy", size=2)
    generator = library.create("generators", "noisy", source_channels=3, target_channels=3)
    check_component("methods", "twofold", generator=generator)


@pytest.fixture
def change_encoder(twofold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a line behind the one that makes the encoder."""

    def change(line: str) -> None:
        file = tmp_path / "plugins/p2pkit_twofold/__init__.py"
        made = "self.encoder = nn.Linear(target_channels, unwrap_model(generator).latent.size)\n"
        assert made in file.read_text()
        file.write_text(file.read_text().replace(made, f"{made}        {line}\n"))
        monkeypatch.delitem(sys.modules, "p2pkit_twofold", raising=False)

    return change


def test_what_a_method_refuses_is_found_before_a_run(
    change_encoder: Callable[[str], None], tmp_path: Path, p2pkit: Call
) -> None:
    change_encoder("raise p2pkit.errors.RecipeError('another generator, please')")
    for command in (("check",), ("run", "--out", tmp_path / "run")):
        outcome = p2pkit(*command, "twofold:small")
        assert outcome.code == 2 and "another generator, please" in outcome.err
    assert not (tmp_path / "run").exists()


def test_networks_may_look_at_their_weights_as_they_are_made(
    change_encoder: Callable[[str], None], p2pkit: Call
) -> None:
    change_encoder("self.encoder.weight.norm().item()")
    assert p2pkit("check", "twofold:small").code == 0
