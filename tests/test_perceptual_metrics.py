"""LPIPS, DISTS and Inception's features by their values, where weights come from, what is said without them."""

from __future__ import annotations

import shutil
import socket
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import dists
from torchvision.models.feature_extraction import create_feature_extractor

import p2pkit
from p2pkit.errors import DataError, P2PKitError, RecipeError, Unavailable
from tests.conftest import REPOSITORY
from tests.trained_networks import FILES

SHARED = REPOSITORY.parent / "shared" / "weights" / "lpips_alexnet.safetensors"


def picture(height: int, width: int, turns: float, channels: int = 3) -> Tensor:
    """Waves [1, C, H, W] in [-1, 1]."""
    down, across = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    waves = [torch.sin(turns * (k + 1) * down + (5 - k) * across * turns**0.5 + k) for k in range(channels)]
    return torch.stack(waves)[None]


def number(metric: Any, output: Tensor, target: Tensor) -> float:
    metric.reset()
    metric.update(output, target)
    return float(metric.compute())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that is empty, on a machine without a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hugging_face"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


# --- values


@pytest.mark.skipif(not SHARED.exists(), reason="the weights of AlexNet are not beside the repository")
@pytest.mark.parametrize(
    ("size", "channels", "expected"),
    [
        ((64, 64), 3, 0.148864806), ((64, 64), 1, 0.079510272),
        ((96, 131), 3, 0.343565822), ((96, 131), 1, 0.169464722),
    ],
)  # fmt: skip
def test_lpips_is_that_of_its_authors(size: tuple[int, int], channels: int, expected: float) -> None:
    """As ``lpips`` 0.1.4 of PyPI computes it with these weights; one channel repeated to three."""
    metric = p2pkit.create("metrics", "lpips", weights=str(SHARED))
    assert metric.computed_with == {"network": "alexnet", "weights": "sha256 7d651cabbeac2a9b"}
    output, target = picture(*size, 7.0, channels), picture(*size, 9.0, channels)
    assert number(metric, output, target) == pytest.approx(expected, abs=1e-6)
    assert number(metric, target, target) == 0


@pytest.mark.parametrize(
    ("network", "name", "layers"),
    [("alex", "alexnet", (1, 4, 7, 9, 11)), ("vgg", "vgg16", (3, 8, 15, 22, 29))],
)
def test_lpips_by_hand(network: Any, name: str, layers: tuple[int, ...], random_weights: Path, tmp_path: Path) -> None:
    weights = torch.load(random_weights / FILES[name], weights_only=True)
    whole = getattr(torchvision.models, name)(weights=None).features
    whole.load_state_dict({key.removeprefix("features."): value for key, value in weights.items()})
    features = create_feature_extractor(whole.eval(), [str(layer) for layer in layers])
    output, target = picture(40, 50, 7.0), picture(40, 50, 9.0)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    with torch.no_grad():
        seen = [features((image - shift[:, None, None]) / scale[:, None, None]) for image in (output, target)]
    heads = [torch.rand(1, seen[0][str(layer)].shape[1], 1, 1) for layer in layers]
    expected = 0.0
    for layer, head in zip(layers, heads, strict=True):
        one, other = (F.normalize(each[str(layer)].double(), dim=1) for each in seen)
        expected += float((((one - other) ** 2 * head).sum(1)).mean())
    named = {f"lin{index}.weight": head for index, head in enumerate(heads)}
    save_file({**weights, **named}, tmp_path / "weights.safetensors")
    metric = p2pkit.create("metrics", "lpips", network=network, weights=str(tmp_path / "weights.safetensors"))
    assert number(metric, output, target) == pytest.approx(expected, rel=1e-4)


def test_dists_is_that_of_torchmetrics(random_weights: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(random_weights / FILES["vgg16"], hub)
    metric = p2pkit.create("metrics", "dists", download=False)
    features = torchvision.models.vgg16(weights=None).features
    weights = torch.load(random_weights / FILES["vgg16"], weights_only=True)
    features.load_state_dict({key.removeprefix("features."): value for key, value in weights.items()})
    # theirs would download them
    monkeypatch.setattr(dists, "vgg16", lambda weights: SimpleNamespace(features=features))
    for size in ((64, 64), (37, 50)):
        output, target = ((picture(*size, turns) + 1) / 2 for turns in (7.0, 9.0))
        expected = dists.deep_image_structure_and_texture_similarity(output, target).item()
        assert number(metric, output, target) == pytest.approx(expected, abs=1e-5)
        assert expected > 0.05
    assert number(metric, output, output) == pytest.approx(0, abs=1e-5)
    # weights of the features may come with the network's
    own = {"alpha": torch.zeros(1, 1475, 1, 1), "beta": torch.zeros(1, 1475, 1, 1)}
    own["alpha"][:, :3] = 1.0
    save_file({**weights, **own}, hub / "own.safetensors")
    one, other = output.mean((2, 3)), target.mean((2, 3))
    by_hand = 1 - ((2 * one * other + 1e-6) / (one**2 + other**2 + 1e-6)).mean()
    metric = p2pkit.create("metrics", "dists", weights=str(hub / "own.safetensors"))
    assert number(metric, output, target) == pytest.approx(by_hand.item(), abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_inceptions_features_are_those_of_torch_fidelity(channels: int, random_weights: Path, tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = random_weights / FILES["inception"]
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file))
    image = torch.randint(0, 256, (1, channels, 40, 60), dtype=torch.uint8)
    (expected,) = theirs.eval()(image.expand(-1, 3, -1, -1))
    fid = p2pkit.create("metrics", "fid", weights=str(file))
    found = fid.features(image / 255)
    assert torch.equal(found, expected) and found.std() > 0
    # the layer of classes has no part in it, and a file of the other kind has the same hash
    kept = {key: value for key, value in torch.load(file, weights_only=True).items() if not key.startswith("fc.")}
    save_file(kept, tmp_path / "features.safetensors")
    other = p2pkit.create("metrics", "kid", weights=str(tmp_path / "features.safetensors"))
    assert torch.equal(other.features(image / 255), expected) and other.computed_with == fid.computed_with
    assert fid.computed_with["network"] == "inception-v3 of 2015"


# --- where weights come from


def test_weights_are_found_in_the_hub_cache(random_weights: Path, hub: Path) -> None:
    for name in FILES.values():
        shutil.copy(random_weights / name, hub)
    made = [p2pkit.create("metrics", name, download=False) for name in ("lpips", "dists", "fid", "kid")]
    made.append(p2pkit.create("metrics", "lpips", network="vgg", download=False))
    assert [each.computed_with["network"] for each in made] == [
        "alexnet", "vgg16", "inception-v3 of 2015", "inception-v3 of 2015", "vgg16",
    ]  # fmt: skip
    (hub / FILES["alexnet"]).unlink()
    with pytest.raises(Unavailable):
        p2pkit.create("metrics", "lpips", download=False)
    weights = torch.load(random_weights / FILES["alexnet"], weights_only=True)
    save_file(weights, hub / "lpips_alexnet.safetensors")
    again = p2pkit.create("metrics", "lpips", download=False)
    assert again.computed_with == made[0].computed_with


def test_vgg16s_weights_are_found_in_the_hugging_face_cache(random_weights: Path, hub: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hugging_face" / "models--timm--vgg16.tv_in1k"
    for folder in ("refs", "snapshots/1"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text("1")
    weights = torch.load(random_weights / FILES["vgg16"], weights_only=True)
    save_file(weights, repository / "snapshots" / "1" / "model.safetensors")
    given = p2pkit.create("metrics", "dists", weights=str(random_weights / FILES["vgg16"]))
    assert p2pkit.create("metrics", "dists", download=False).computed_with == given.computed_with


def test_copies_share_the_network_and_nothing_else(random_weights: Path) -> None:
    metric = p2pkit.create("metrics", "lpips", weights=str(random_weights / FILES["alexnet"]))
    output, target = picture(32, 32, 7.0), picture(32, 32, 9.0)
    value = number(metric, output, target)
    copied = deepcopy(metric)
    assert number(copied, target, target) == 0 and metric.compute() == value
    assert copied._network is metric._network
    assert not any(parameter.requires_grad for parameter in metric._network.network.parameters())


@pytest.mark.parametrize(
    ("name", "parameters", "file"),
    [
        ("lpips", {}, FILES["alexnet"]), ("lpips", {"network": "vgg"}, FILES["vgg16"]),
        ("dists", {}, FILES["vgg16"]), ("fid", {}, FILES["inception"]), ("kid", {}, FILES["inception"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("download", [True, False])
def test_missing_weights_are_reported_with_where_to_put_them(
    name: str, parameters: dict[str, Any], file: str, download: bool, hub: Path
) -> None:
    with pytest.raises(Unavailable) as raised:
        p2pkit.create("metrics", name, download=download, **parameters)
    message = str(raised.value)
    assert f"Put the file {file} into {hub} (TORCH_HOME" in message and 'weights = "PATH"' in message
    assert ("Network is unreachable" in message) is download and ("download = false" in message) is not download
    assert "\n" not in message and not list(hub.glob("*.pth"))


@pytest.mark.parametrize("name", ["lpips", "dists", "fid", "kid"])
def test_files_without_the_weights_are_refused(name: str, tmp_path: Path, random_weights: Path) -> None:
    torn, other, gone = (tmp_path / file for file in ("torn.pth", "other.safetensors", "gone.pth"))
    torn.write_bytes((random_weights / FILES["alexnet"]).read_bytes()[:5000])
    save_file({"features.0.weight": torch.zeros(2, 2)}, other)
    for file, reason in (
        (torn, "no weights can be read from it, damaged or unsafe"),
        (other, "it does not hold the weights of"),
        (gone, "there is no such file of weights"),
    ):
        with pytest.raises(DataError, match=reason) as raised:
            p2pkit.create("metrics", name, weights=str(file))
        assert str(file) in str(raised.value) and len(str(raised.value)) < 500


def test_without_torch_fidelity_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(P2PKitError, match=r"needs torch-fidelity.*: pip install 'p2pkit\[fid\]'"):
        p2pkit.create("metrics", "fid", download=False)


# --- images that they do not take


def test_images_that_are_too_small_or_of_other_channels(random_weights: Path) -> None:
    for network, side in (("alex", 31), ("vgg", 16)):
        file = FILES["alexnet" if network == "alex" else "vgg16"]
        metric = p2pkit.create("metrics", "lpips", network=network, weights=str(random_weights / file))
        assert number(metric, picture(side, side, 7.0), picture(side, side, 9.0)) > 0
        with pytest.raises(
            RecipeError, match=rf"{side}x{side} pixels or more, for the layers of its network; found 40x{side - 1} "
        ):
            number(metric, picture(40, side - 1, 7.0), picture(40, side - 1, 9.0))
    dists_metric = p2pkit.create("metrics", "dists", weights=str(random_weights / FILES["vgg16"]))
    assert number(dists_metric, torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)) > 0.01
    fid = p2pkit.create("metrics", "fid", weights=str(random_weights / FILES["inception"]))
    four = torch.zeros(1, 4, 40, 40)
    for refused in (lambda: number(metric, four, four), lambda: fid.features(four)):
        with pytest.raises(RecipeError, match="takes images of 3 channels, or of 1, which is repeated; found 4"):
            refused()
