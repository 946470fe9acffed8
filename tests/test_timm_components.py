"""timm's networks as encoders, as what a loss looks through, as what a discriminator judges by."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import timm
import tomlkit
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import p2pkit as library
from p2pkit.errors import P2PKitError, RecipeError
from p2pkit.export.standalone import Standalone
from p2pkit.inference.policy import Policy, infer
from p2pkit.networks.fast_convolutions import speed_up_convolutions
from p2pkit.training.sync_norm import with_synchronised_norm
from tests.conftest import SMALLEST, Call, picture, save, train, untrained_model

CHANNELS = {"source_channels": 3, "target_channels": 3}
# norms with an activation of their own come with efficientnet; a norm after pooling to one pixel with resnest
FAMILIES = ["resnet10t", "convnext_atto", "efficientnet_lite0", SMALLEST, "vgg11_bn", "resnest14d", "ghostnet_050"]


def images(channels: int, *size: int, count: int = 2) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(channels)) * 2 - 1


def generator(backbone: str, **parameters: Any) -> Any:
    torch.manual_seed(0)
    return library.create("generators", "timm_unet", **{"width": 4, "backbone": backbone, **CHANNELS, **parameters})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache on a machine without a network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


# --- the generator


@pytest.mark.parametrize("backbone", FAMILIES)
def test_any_network_translates_any_size_and_every_parameter_learns(backbone: str) -> None:
    network = generator(backbone, source_channels=2, target_channels=5)
    output = network(images(2, 64, 96))
    assert output.shape == (2, 5, 64, 96) and output.abs().max() <= 1
    output.square().sum().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    assert (network.size_multiple, network.smallest_size) == (32, 64)
    for size in ((1, 1), (33, 70)):
        output = infer(network, images(2, *size), Policy(), [0, 1])
        assert output.shape == (2, 5, *size) and output.isfinite().all()


@pytest.mark.parametrize("backbone", [*FAMILIES[:5], "hrnet_w18_small"])
def test_maps_are_as_timm_describes_them(backbone: str) -> None:
    encoder = generator(backbone).encoder
    info = timm.create_model(backbone, features_only=True).feature_info
    assert (encoder.channels, encoder.reductions) == (info.channels(), info.reduction())
    found = [(one.shape[1], 64 // one.shape[2], 96 // one.shape[3]) for one in encoder(images(3, 64, 96))]
    assert found == [(channels, by, by) for channels, by in zip(info.channels(), info.reduction(), strict=True)]


@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}),
        ("swin_tiny_patch4_window7_224", {"strict_img_size": False}),
    ],
)
def test_transformers_translate_too(backbone: str, arguments: dict[str, bool]) -> None:
    network = generator(backbone, timm=arguments)
    network(images(3, 64, 64)).sum().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    assert infer(network, images(3, 33, 70), Policy(), [0, 1]).shape == (2, 3, 33, 70)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_transformer_of_one_size_says_how_to_allow_others(backbone: str, recipe: Path, p2pkit: Call) -> None:
    table = f'generator={{name="timm_unet",backbone="{backbone}",width=4}}'
    sizes = ("--set", "transform.load_size=64", "--set", "transform.crop_size=64")
    outcome = p2pkit("check", recipe, "--set", table, *sizes)
    assert outcome.code == 2, outcome.err
    assert backbone in outcome.err and "64x64" in outcome.err and "img_size = " in outcome.err


def test_what_lies_behind_the_last_map_is_not_trained() -> None:
    network = generator("efficientnet_lite0", timm={"out_indices": [0, 1, 2]})
    network(images(3, 64, 64)).sum().backward()
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    assert trained == {name for name, value in network.named_parameters() if value.grad is not None}
    assert all(value.requires_grad for value in generator("efficientnet_lite0").parameters())


def test_each_image_is_normalised_as_the_network_expects() -> None:
    encoder = generator("resnet10t").encoder.eval()
    source = images(3, 64, 64)
    mean, std = (torch.tensor(encoder.network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    expected = encoder.network(((source + 1) / 2 - mean) / std)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(encoder(source), expected, strict=True))


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnetv2_50", SMALLEST])
def test_norms_with_an_activation_of_their_own_follow_the_policy(backbone: str) -> None:
    network = generator(backbone, dropout=0.0)
    source = images(3, 64, 64, count=1)
    with torch.no_grad():
        # a batch of one in training has the statistics of the image
        expected = network.train()(source)
    assert torch.allclose(infer(network, source, Policy("sample"), [0]), expected, atol=1e-4)
    assert torch.allclose(infer(network, source, Policy("batch"), [0]), expected, atol=1e-4)
    assert torch.allclose(Standalone(network, Policy("sample", False))(source), expected, atol=1e-4)
    running = infer(network, source, Policy("running"), [0])
    assert not torch.allclose(running, expected, atol=1e-2)


def test_norms_with_an_activation_are_gathered_from_tiles_and_synchronised(tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "model.safetensors", "timm_unet", backbone="efficientnet_lite0", width=4)
    translate = library.load_model(model, "cpu", dropout=False)
    source = picture(64, 96, 1)
    whole, tiled = (np.asarray(translate(source, tile=tile), dtype=int) for tile in (None, 128))
    assert np.abs(whole - tiled).max() <= 1
    network = translate.generator.train()
    synchronised = with_synchronised_norm(generator("efficientnet_lite0"), torch.device("cpu"))
    synchronised.load_state_dict(network.state_dict())
    speed_up_convolutions(synchronised)  # as in the other, so that both round alike
    both = (infer(one, images(3, 64, 64), Policy("running", False), [0, 1]) for one in (network, synchronised))
    assert torch.equal(*both)


def test_a_norm_of_single_values_uses_what_training_gathered() -> None:
    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            nn.init.constant_(self.norm.running_mean, 0.5)  # type: ignore[arg-type]

        def forward(self, source: Tensor) -> Tensor:
            return source + self.norm(source.mean((2, 3), keepdim=True))

    network, source = Squeezed(), images(3, 8, 8)
    expected = network.eval()(source)
    assert torch.allclose(infer(network, source, Policy(), [0, 1]), expected)
    assert torch.allclose(Standalone(network, Policy("sample", False))(source), expected)
    # one image alone is no batch that could have statistics
    assert torch.allclose(infer(network, source[:1], Policy("batch"), [0]), expected[:1])


def _write(model: Path, tensors: dict[str, Tensor], **changed: Any) -> None:
    from p2pkit.inference.model_file import read_header, write_model

    header = read_header(model)
    write_model(model, tensors, header.model_copy(update={"parameters": {**header.parameters, **changed}}))


def test_a_model_file_needs_no_other_weights(hub: Path, p2pkit: Call, weights: Path, tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "model.safetensors", "timm_unet", backbone=SMALLEST, width=4)
    expected = library.load_model(model, "cpu")(picture(40, 40, 1))
    tensors = load_file(model)
    with pytest.raises(P2PKitError, match=SMALLEST):
        generator(SMALLEST, pretrained=True)
    for changed in ({"pretrained": True}, {"weights": str(tmp_path / "gone.safetensors")}):
        _write(model, tensors, **changed)
        assert np.array_equal(library.load_model(model, "cpu")(picture(40, 40, 1)), expected)
    source = save(tmp_path / "labels.png", picture(40, 40, 1))
    assert p2pkit("translate", model, source, "--out", tmp_path / "out").code == 0


# --- weights


def test_weights_come_from_a_file(weights: Path, tmp_path: Path) -> None:
    learnt = load_file(weights)
    state_dict = tmp_path / "learnt.pt"
    torch.save({"state_dict": learnt}, state_dict)
    wrapped = tmp_path / "wrapped.pt"
    within = {f"module._orig_mod.{key}": value for key, value in learnt.items()}
    torch.save({"epoch": 3, "args": Namespace(lr=0.1), "model": within}, wrapped)
    for file in (weights, state_dict, wrapped):
        found = dict(generator(SMALLEST, weights=str(file)).encoder.network.state_dict())
        assert torch.equal(found["blocks.0.0.conv_dw.weight"], learnt["blocks.0.0.conv_dw.weight"])
        assert torch.equal(found["bn1.running_mean"], learnt["bn1.running_mean"])
    stem = generator(SMALLEST, weights=str(weights), source_channels=1).encoder.network.conv_stem.weight
    assert torch.allclose(stem, learnt["conv_stem.weight"].sum(1, keepdim=True), atol=1e-6)


def test_weights_come_from_the_hugging_face_cache(hub: Path, weights: Path) -> None:
    repository = hub / f"models--timm--{timm.get_pretrained_cfg(SMALLEST).hf_hub_id.partition('/')[2]}"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    shutil.copy(weights, snapshot / "model.safetensors")
    found = generator(SMALLEST, pretrained=True).encoder.network.blocks[0][0].conv_dw.weight
    assert torch.equal(found, load_file(weights)["blocks.0.0.conv_dw.weight"])


def test_making_a_network_of_given_weights_leaves_chance_as_it_was(weights: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    library.create("losses", "perceptual", target_channels=3, backbone=SMALLEST, weights=str(weights))
    assert torch.equal(torch.rand(1), expected)


class Code:
    """What no file of weights has to hold."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_weights_that_are_none_are_refused(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.safetensors").write_bytes(weights.read_bytes()[:5000])
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"weights": Code()}, tmp_path / "code.pt")
    save_file({"conv_stem.weight": torch.zeros(1)}, tmp_path / "other_shape.safetensors")
    lacking = load_file(weights)
    del lacking["blocks.0.0.conv_dw.weight"]
    save_file(lacking, tmp_path / "lacking.safetensors")
    save_file({}, tmp_path / "empty.safetensors")
    expected = {
        "nowhere.pt": "there is no such file", "damaged.safetensors": "no weights can be read",
        "text.pt": "no weights can be read", "code.pt": "no weights can be read",
        "empty.safetensors": "holds no weights", "other_shape.safetensors": "does not hold the weights",
        "lacking.safetensors": "blocks.0.0.conv_dw.weight the first",
    }  # fmt: skip
    for name, message in expected.items():
        with pytest.raises(P2PKitError, match=message) as raised:
            generator(SMALLEST, weights=name)
        assert name in str(raised.value)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(RecipeError, match="timm knows no published weights of 'ghostnet_050'"):
        generator("ghostnet_050", pretrained=True)


# --- in recipes

ALL_THREE = """
[generator]
name = "timm_unet"
backbone = "resnet10t"
width = 4

[generator.timm]
out_indices = [0, 1, 2]

[discriminator]
name = "projected"
backbone = "{backbone}"
weights = "{weights}"
scales = 3
width = 4

[[losses]]
name = "hinge"

[[losses]]
name = "perceptual"
weight = 10
backbone = "{backbone}"
weights = "{weights}"
layers = [0, 2]
"""


@pytest.fixture
def timm_recipe(recipe: Path, weights: Path) -> Path:
    """The small recipe, with timm in generator, discriminator and losses."""
    text = recipe.read_text()
    begin, end = text.index("[generator]"), text.index("[train]")
    recipe.write_text(text[:begin] + ALL_THREE.format(backbone=SMALLEST, weights=weights) + text[end:])
    return recipe


def test_all_three_train_and_resume_exactly(timm_recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    whole = train(p2pkit, timm_recipe, tmp_path / "whole", "train.ema_decay=0.9")
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step_00000004")
    outcome = p2pkit("run", "--resume", cut)
    assert outcome.code == 0 and "resuming from step 2" in outcome.err
    for name in ("model.safetensors", "checkpoints/step_00000004/networks.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()
    assert (whole / "metrics.jsonl").read_text() == (cut / "metrics.jsonl").read_text()
    saved = load_file(whole / "checkpoints" / "step_00000004" / "networks.safetensors")
    assert {name.partition("|")[0] for name in saved} == {"generator", "discriminator", "ema"}
    before = load_file(whole / "checkpoints" / "step_00000002" / "networks.safetensors")
    fixed = [name for name in saved if name.startswith(("discriminator|features", "discriminator|mixing"))]
    assert fixed and all(torch.equal(saved[name], before[name]) for name in fixed)
    judged = [name for name in saved if name.startswith("discriminator|heads") and name.endswith("original1")]
    judged += [name for name in saved if name.startswith("discriminator|heads") and name.endswith("weight.original")]
    assert judged and not any(torch.equal(saved[name], before[name]) for name in judged)


def test_a_penalty_on_gradients_of_a_network_without_second_derivatives(recipe: Path, p2pkit: Call) -> None:
    judge = f'discriminator={{name="projected",backbone="{SMALLEST}",pretrained=false,width=4}}'
    losses = 'losses=[{name="hinge"},{name="r1"}]'
    outcome = p2pkit("run", recipe, "--out", recipe.parent / "run", "--set", judge, "--set", losses)
    assert outcome.code == 2, outcome.err
    assert "r1" in outcome.err and "hardsigmoid" in outcome.err and "discriminator.backbone" in outcome.err


def test_the_table_of_arguments_reaches_timm(timm_recipe: Path, p2pkit: Call) -> None:
    settings = ("--set", "generator.timm.drop_path_rate=0.25", "--set", "losses.1.timm.act_layer=gelu")
    shown = p2pkit("show", timm_recipe, *settings)
    assert shown.code == 0, shown.err
    tables = tomlkit.parse(shown.out).unwrap()
    assert tables["generator"]["timm"] == {"out_indices": [0, 1, 2], "drop_path_rate": 0.25}
    assert tables["losses"][1]["timm"] == {"act_layer": "gelu"}
    origins = [line for line in shown.out.splitlines() if "drop_path_rate" in line or "act_layer" in line]
    assert all("# --set" in line for line in origins) and len(origins) == 2
    jsonschema.validate(tables, p2pkit("schema").json)
    assert p2pkit("check", timm_recipe, *settings).code == 0
    network = generator("resnet10t", timm={"drop_path_rate": 0.25})
    assert max(getattr(one, "drop_prob", 0.0) for one in network.modules()) == 0.25
    for key in ("generator", "discriminator", "losses.1"):
        outcome = p2pkit("check", timm_recipe, "--set", f"{key}.timm.dorp_rate=1")
        assert outcome.code == 2 and "dorp_rate" in outcome.err and "Traceback" not in outcome.err
        refused = p2pkit("check", timm_recipe, "--set", f"{key}.timm.checkpoint_path=x")
        assert refused.code == 2 and "timm.checkpoint_path: not an argument for this table" in refused.err
    outcome = p2pkit("check", timm_recipe, "--set", "generator.timm.out_indices=9")
    assert outcome.code == 2 and "out_indices = 9" in outcome.err


def test_misspelt_networks_get_the_nearest_name(timm_recipe: Path, p2pkit: Call) -> None:
    wrong = {"generator": "resnt10t", "discriminator": "efficentnet_lite0", "losses.1": "vgg16.tv_in2k"}
    outcome = p2pkit("check", timm_recipe, *(w for key in wrong for w in ("--set", f"{key}.backbone={wrong[key]}")))
    assert outcome.code == 2 and len(outcome.said) == 3
    for key, meant in zip(wrong, ("resnet10t", "efficientnet_lite0", "vgg16.tv_in1k"), strict=True):
        assert f"{key}.backbone: found {wrong[key]!r}" in outcome.err and f"did you mean {meant!r}?" in outcome.err
    outcome = p2pkit("check", timm_recipe, "--set", "generator.backbone=vit_so400m_patch14_siglip_224")
    assert outcome.code == 2 and "expected powers of two" in outcome.err


@pytest.mark.parametrize("key", ["generator", "discriminator", "losses.1"])
def test_missing_weights_are_reported_before_a_run_and_how_to_give_them(
    key: str, hub: Path, timm_recipe: Path, weights: Path, p2pkit: Call, tmp_path: Path
) -> None:
    text = timm_recipe.read_text().replace(f'weights = "{weights}"', "pretrained = false")
    timm_recipe.write_text(text)
    command = ("run", timm_recipe, "--set", f"{key}.pretrained=true", "--out", tmp_path / "run")
    for arguments in (command, ("check", *command[1:4])):
        outcome = p2pkit(*arguments)
        assert outcome.code == 2 and 'weights = "PATH"' in outcome.err and "Traceback" not in outcome.err
        assert "file model.safetensors of the repository timm/" in outcome.err
    assert not (tmp_path / "run").exists()
    assert p2pkit("check", timm_recipe).code == 0


def test_components_are_listed_without_making_any(hub: Path, p2pkit: Call) -> None:
    listed = p2pkit("components", "losses")
    assert listed.code == 0 and "perceptual" in listed.out and "AfterValidator" not in listed.out
