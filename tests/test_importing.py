"""Checkpoints of the reference implementation: imported exactly, trained on with, and written back."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import p2pkit as toolkit
from p2pkit.components.catalogue import create
from p2pkit.reference.architecture import network_in
from tests import reference_networks as reference
from tests.conftest import REPOSITORY, Call, lines, picture, untrained_model

GENERATORS = ("unet_128", "unet_256", "resnet_6blocks", "resnet_9blocks")
CHANNELS = {"source_channels": 3, "target_channels": 3}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


def image(side: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, side, side) * 2 - 1


def without_noise(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network.train()


@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("name", GENERATORS)
def test_an_imported_generator_gives_the_outputs_of_the_reference(
    name: str, norm: str, dropout: bool, tmp_path: Path
) -> None:
    network = reference.generator(name, norm, dropout)
    checkpoint = reference.save(network, tmp_path / "latest_net_G.pth")
    told = name.startswith("resnet")
    imported = toolkit.import_checkpoint(
        checkpoint, tmp_path / "model.safetensors", dropout=None if told or dropout else 0, size="source"
    )
    assert bool(imported.header.parameters["dropout"]) == dropout
    assert imported.header.parameters["norm"] == norm
    source = image(256 if name == "unet_256" else 128 if name == "unet_128" else 64)
    with torch.no_grad():
        expected = without_noise(network)(source)
    found = toolkit.load_model(imported.model, "cpu", dropout=False).tensor(source)
    assert expected.std() > 0.02
    assert (found - expected).abs().max() < 1e-5
    # and back again, name by name and bit by bit
    toolkit.export_checkpoint(imported.model, tmp_path / "again.pth")
    before, after = (torch.load(file, weights_only=True) for file in (checkpoint, tmp_path / "again.pth"))
    assert before.keys() == after.keys()
    assert all(before[key].equal(after[key]) for key in before)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("name", ["basic", "n_layers", "pixel"])
def test_an_imported_discriminator_gives_the_logits_of_the_reference(name: str, norm: str, tmp_path: Path) -> None:
    network = reference.discriminator(name, norm)
    found = network_in(reference.save(network, tmp_path / "latest_net_D.pth"), "discriminators", (3, 3))
    source, target = image(128), image(128)
    with torch.no_grad():
        expected = network.eval()(torch.cat([source, target], 1))
        assert (found.network(source, target) - expected).abs().max() < 1e-5
        assert (found.network(target, source) - expected).abs().max() > 1e-4  # the source comes first


def test_the_dropout_of_an_imported_u_net_is_where_the_reference_has_it(tmp_path: Path) -> None:
    """With ones in place of what follows, the noise alone remains: it begins at the same resolution."""
    for name, sides in (("unet_128", {4, 8}), ("unet_256", {4, 8, 16})):
        theirs = reference.generator(name, "batch", True)
        header = toolkit.import_checkpoint(
            reference.save(theirs, tmp_path / "g.pth"), tmp_path / "model.safetensors"
        ).header
        ours = create("generators", header.generator, **header.parameters, **CHANNELS)
        for network in (theirs, ours):
            seen: set[int] = set()
            for module in network.modules():
                if isinstance(module, nn.Dropout):
                    module.register_forward_hook(lambda _, given, __, seen=seen: seen.add(given[0].shape[2]))
            network.eval()(image(128 if name == "unet_128" else 256))
            assert seen == sides


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."], ids=lambda prefix: prefix[:-1]
)
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_old_and_wrapped_files_are_the_same_network(norm: str, prefix: str, tmp_path: Path) -> None:
    """Without num_batches_tracked, in the format before PyTorch 1.6, with statistics that instance norm once kept."""
    network = reference.generator("resnet_6blocks", norm, True)
    plain = network_in(reference.save(network, tmp_path / "plain.pth"), "generators").network
    state = {
        prefix + name: tensor for name, tensor in network.state_dict().items() if "num_batches_tracked" not in name
    }
    if norm == "instance":
        state |= {f"{prefix}model.2.running_mean": torch.ones(4), f"{prefix}model.2.running_var": torch.ones(4)}
    torch.save({"epoch": 7, "state_dict": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = network_in(tmp_path / "old.pth", "generators").network.state_dict()
    assert all(old[name].equal(tensor) for name, tensor in plain.state_dict().items() if tensor.ndim)


@pytest.mark.parametrize(
    ("name", "norm", "millions"), [("unet_256", "batch", 54.414), ("resnet_9blocks", "instance", 11.378)]
)
def test_full_size_has_the_published_number_of_parameters(name: str, norm: str, millions: float) -> None:
    with torch.device("meta"):
        theirs = reference.generator(name, norm, True, width=64)
        ours = create("generators", name.partition("_")[0], norm=norm, **CHANNELS)
    for network in (theirs, ours):
        assert round(sum(one.numel() for one in network.parameters()) / 1e6, 3) == millions


@pytest.mark.parametrize("side", [70, 128, 256, 512])
@pytest.mark.parametrize("layers", range(7))
def test_maps_and_parameters_of_every_discriminator(layers: int, side: int) -> None:
    """By the rule of the reference: strided layers halve, the two behind them take one pixel each."""
    widths = [64 * min(2**level, 8) for level in range(max(layers, 1) + 1)]
    area = 16 if layers else 1
    count = 6 * area * 64 + 64 + sum(a * b * area + 2 * b for a, b in pairwise(widths))
    count += widths[-1] * area + (1 if layers else 0)
    expected = side
    for _ in range(layers):
        expected //= 2
    expected -= 2 if layers else 0
    with torch.device("meta"):
        network = create("discriminators", "patchgan", layers=layers, bias=False, **CHANNELS)
    assert sum(one.numel() for one in network.parameters()) == count
    if layers == 3:
        assert round(count / 1e6, 3) == 2.769 and (side != 256 or expected == 30)
    images = torch.zeros(2, 3, side, side, device="meta")
    if expected < 1:
        with pytest.raises(toolkit.errors.RecipeError, match="layers"):
            network(images, images)
    else:
        assert network(images, images).shape[2:] == (expected, expected)


@pytest.mark.parametrize("name", ["basic", "n_layers", "pixel"])
def test_a_step_from_imported_networks_is_the_step_of_the_reference(name: str, tmp_path: Path) -> None:
    generator = reference.generator("unet_128", "batch", False)
    discriminator = reference.discriminator(name, "batch")
    imported = toolkit.import_checkpoint(
        reference.save(generator, tmp_path / "latest_net_G.pth"), tmp_path / "model.safetensors",
        reference.save(discriminator, tmp_path / "latest_net_D.pth"), dropout=0, size="source",
    )  # fmt: skip
    sides = []
    for side in ("A", "B"):
        (tmp_path / "data" / "train" / side).mkdir(parents=True)
        pixels = [picture(128, 128, seed) for seed in ((1, 2) if side == "A" else (3, 4))]
        for number, one in enumerate(pixels):
            Image.fromarray(one).save(tmp_path / "data" / "train" / side / f"{number}.png")
        sides.append(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1)
    recipe: dict[str, Any] = {
        **imported.header.recipe_tables(),
        "data": {"name": "paired_folders", "root": str(tmp_path / "data"), "split": 0},
        "loader": {"batch_size": 2, "workers": 0},
        "losses": [{"name": "gan"}, {"name": "l1", "weight": 100}],
        "train": {"init_from": str(imported.model), "max_steps": 1, "log_every": 1},
    }
    result = toolkit.train(recipe, out=tmp_path / "run", device="cpu")
    losses = reference.one_step(generator.train(), discriminator.train(), *sides)
    logged = next(line for line in lines(result.run_dir) if line["split"] == "train")
    for term, value in losses.items():
        assert logged[term] == pytest.approx(value, abs=1e-5, rel=1e-6)
    exported = toolkit.export_checkpoint(result.run_dir, tmp_path / "latest_net_G.pth")
    assert exported.discriminator == tmp_path / "latest_net_D.pth"
    for file, network in ((exported.generator, generator), (exported.discriminator, discriminator)):
        found = torch.load(file, weights_only=True)
        # parameters alone: running statistics of the discriminator go by the order of real and fake
        for key, tensor in network.named_parameters():
            apart = (found[key] - tensor).abs() > 1e-5
            # Adam makes a whole step of a gradient that rounding alone keeps from 0
            assert not apart.any() or tensor.grad[apart].abs().max() < 1e-7, key
            assert apart.sum() < 1e-3 * len(apart.flatten()), key


def small_checkpoints(folder: Path, norm: str = "instance", dropout: bool = True) -> tuple[nn.Module, nn.Module]:
    generator, discriminator = reference.generator("unet_128", norm, dropout), reference.discriminator("basic", norm)
    reference.save(generator, folder / "latest_net_G.pth")
    reference.save(discriminator, folder / "latest_net_D.pth", "module.{}".format)
    return generator, discriminator


def test_the_page_on_importing(p2pkit: Call, tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator, discriminator = small_checkpoints(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(100, 120, 1)).save(tmp_path / "photos" / "a.png")
    page = (REPOSITORY / "docs" / "importing.md").read_text()
    said = {}
    for line in re.findall(r"^    p2pkit (.+)$", page, re.MULTILINE):
        outcome = p2pkit(*shlex.split(line))
        assert outcome.code == 0, outcome.err
        said[line.split()[0]] = outcome.out + outcome.err
    assert "dropout of 0.5 in the decoder blocks [2, 3]" in said["import"]
    assert "discriminator" in said["inspect"] and "latest_net_G.pth" in said["inspect"]
    assert Image.open(tmp_path / "translated" / "a.png").size == (120, 100)
    for name, network in (("G", generator), ("D", discriminator)):
        written = torch.load(tmp_path / "back" / f"latest_net_{name}.pth", weights_only=True)
        assert all(written[key].equal(tensor) for key, tensor in network.state_dict().items())
    exec(re.findall(r"```python\n(.+?)```", page, re.DOTALL)[0], {})
    (toml,) = re.findall(r"```toml\n(.+?)```", page, re.DOTALL)
    recipe = p2pkit("inspect", "model.safetensors", "--recipe").out + toml.replace("epochs = 20", "max_steps = 1")
    recipe = recipe.replace('root = "data"', f"root = {str(pairs)!r}").replace("[256, 256]", "128")
    (tmp_path / "recipe.toml").write_text(recipe)
    trained = p2pkit("run", "recipe.toml", "--out", "run", "--device", "cpu")
    assert trained.code == 0, trained.err
    assert "discriminator begins with 10 tensors" in trained.err and "initialised" not in trained.err
    options = ("--data", "recipe.toml", "--metrics", "mae", "--device", "cpu", "--json")
    measured = p2pkit("evaluate", "model.safetensors", *options)
    assert measured.code == 0 and 0 < measured.json["rows"]["model"]["mae"] < 1, measured.out


def test_what_the_tensors_tell_cannot_be_said_otherwise(tmp_path: Path) -> None:
    checkpoint = reference.save(reference.generator("resnet_6blocks", "batch", False), tmp_path / "g.pth")
    with pytest.raises(toolkit.errors.ModelFileError, match=r"dropout = 0\.5, but its layers are those of dropout = 0"):
        toolkit.import_checkpoint(checkpoint, tmp_path / "model.safetensors", dropout=0.5)
    assert not (tmp_path / "model.safetensors").exists()


def test_an_imported_model_resizes_as_the_reference_does_unless_it_is_told(p2pkit: Call, tmp_path: Path) -> None:
    small_checkpoints(tmp_path)
    for option, size in ((), [256, 256]), (("--size", "128x256"), [128, 256]), (("--size", "source"), None):
        model = tmp_path / "model.safetensors"
        out = p2pkit("import", tmp_path / "latest_net_G.pth", "--out", model, "--json", *option).json
        assert (out["resize"] and out["resize"]["size"]) == size
        assert out["policy"] == {"norm": "sample", "dropout": True} and out["source_reading"]["channels"] == "rgb"
    refused = p2pkit("import", tmp_path / "latest_net_G.pth", "--out", tmp_path / "m.safetensors", "--size", "0")
    assert refused.code == 2 and "HEIGHTxWIDTH" in refused.err


def test_a_network_that_the_reference_does_not_have_is_not_exported(p2pkit: Call, tmp_path: Path) -> None:
    for parameters in ({"upsampling": "resize"}, {"skips": False}):
        model = untrained_model(tmp_path / "model.safetensors", "unet", depth=5, width=2, **parameters)
        refused = p2pkit("export", model, "--format", "reference", "--out", tmp_path / "g.pth")
        assert refused.code == 2 and "not one that a reference implementation has" in refused.err
        assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_an_export_says_where_the_noise_of_the_reference_is_another(p2pkit: Call, tmp_path: Path) -> None:
    """The paper's dropout is written too; instance norm gets the biases that the reference has, all 0."""
    model = untrained_model(tmp_path / "model.safetensors", "unet", depth=7, width=2, norm="instance")
    exported = p2pkit("export", model, "--format", "reference", "--out", tmp_path / "latest_net_G.pth")
    assert exported.code == 0 and "dropout_blocks = [2, 3], here dropout_blocks = [1, 2, 3]" in exported.err
    theirs = reference.UNet(7, 2, "instance", True)
    theirs.load_state_dict(torch.load(tmp_path / "latest_net_G.pth", weights_only=True))
    source = image(128)
    with torch.no_grad():
        expected = without_noise(theirs)(source)
    assert (toolkit.load_model(model, "cpu", dropout=False).tensor(source) - expected).abs().max() < 1e-5


def test_what_is_read_is_not_written_over(p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_checkpoints(tmp_path)
    generator, discriminator, model = "latest_net_G.pth", "latest_net_D.pth", tmp_path / "m.safetensors"
    assert p2pkit("import", generator, "--out", model).code == 0
    Path("link.pth").symlink_to(generator)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for arguments in (
        ("import", generator, "--out", tmp_path / generator),
        ("import", generator, "--out", "link.pth"),
        ("import", generator, "--discriminator", discriminator, "--out", discriminator),
        *(("export", "m.safetensors", "--format", form, "--out", model) for form in ("onnx", "reference")),
    ):
        refused = p2pkit(*arguments)
        assert refused.code == 2 and "it is what is read, and would be gone" in refused.err
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_only_what_nobody_has_said_is_said_to_be_assumed(tmp_path: Path) -> None:
    network = reference.shaken(reference.UNet(5, 2, "batch", True))  # so shallow a one has no dropout in the reference
    checkpoint, model = reference.save(network, tmp_path / "g.pth"), tmp_path / "model.safetensors"
    assumed = toolkit.import_checkpoint(checkpoint, model).assumed
    assert any("256x256" in line for line in assumed) and not any("dropout" in line for line in assumed)
    said = toolkit.import_checkpoint(checkpoint, model, size=(32, 64))
    assert said.assumed == assumed[1:] and said.header.parameters["dropout"] == 0
    assert toolkit.import_checkpoint(checkpoint, model, size="source").assumed == assumed[1:]
    with pytest.raises(toolkit.errors.ModelFileError, match="its layers are those of dropout = 0"):
        toolkit.import_checkpoint(checkpoint, model, dropout=0.5)


def test_an_imported_model_asks_for_data_and_a_checkpoint_for_import(p2pkit: Call, tmp_path: Path) -> None:
    small_checkpoints(tmp_path)
    checkpoint, model = tmp_path / "latest_net_G.pth", tmp_path / "model.safetensors"
    assert p2pkit("import", checkpoint, "--out", model).code == 0
    asked = p2pkit("evaluate", model)
    assert asked.code == 2 and "--data RECIPE, or --data SOURCES --data TARGETS" in asked.err
    asked = p2pkit("translate", checkpoint, tmp_path, "--out", tmp_path / "out")
    assert asked.code == 2 and "p2pkit import makes one" in asked.err


def test_an_export_says_what_its_channels_are(recipe: Path, pairs: Path, tmp_path: Path) -> None:
    lab = toolkit.train(
        recipe, out=tmp_path / "lab", device="cpu",
        overrides=["train.max_steps=1", 'source.channels="lab_L"', 'target.channels="lab_ab"'],
    )  # fmt: skip
    assert any("CIELAB" in line for line in toolkit.export_checkpoint(lab.run_dir, tmp_path / "lab.pth").notices)
    sides = {name: tmp_path / "several" / "train" / name for name in ("b", "a", "target")}
    for number, folder in enumerate(sides.values()):
        folder.mkdir(parents=True)
        for name in ("1.png", "2.png"):
            Image.fromarray(picture(16, 16, number)).save(folder / name)
    data = f'data={{name="paired_folders", root="{tmp_path / "several"}", source=["b", "a"], split=0}}'
    several = toolkit.train(recipe, out=tmp_path / "run", device="cpu", overrides=[data, "train.max_steps=1"])
    notices = toolkit.export_checkpoint(several.run_dir, tmp_path / "several.pth").notices
    assert any("the sources b, a are one image there" in line for line in notices)
