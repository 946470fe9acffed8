"""Exported models do in other runtimes what they do in p2pkit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import p2pkit as library
from p2pkit.export.exporting import export_model
from p2pkit.export.noise import drawn_noise
from p2pkit.export.standalone import Standalone
from p2pkit.inference.model_file import read_model, write_model
from p2pkit.inference.model_header import SourceHeader
from p2pkit.inference.policy import noise_seeds
from tests.conftest import REPOSITORY, Call, distribution, untrained_model

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"depth": 4},
    "encoder_decoder": {"depth": 4},
    "resnet": {"blocks": 1},
    "timm_unet": {"backbone": "regnetx_002", "timm": {"out_indices": [0, 1]}},
}
SIZES = [(16, 16), (33, 70), (7, 50)]
PLUGIN = '''
import p2pkit
from pathlib import Path


class Shifted:
    """Writes nothing of use, adds ``by`` to every image, and loses channels."""

    def __init__(self, by: float = 0.0, dropped: int = 0) -> None:
        self.by, self.dropped, self.facts = by, dropped, {"name": "shifted"}

    def write(self, exportable, file: Path) -> None:
        self.network = exportable.network
        file.write_text("shifted")

    def load(self, file: Path):
        return lambda source: self.network(source)[:, self.dropped :] + self.by


@p2pkit.hookimpl
def register_exporters(register):
    register("shifted", Shifted)


@p2pkit.hookimpl
def register_generators(register):
    import torch
    from torch import nn

    class Moody(nn.Module):
        """Does one thing to bright images, another to dark ones."""

        def __init__(self, source_channels: int, target_channels: int) -> None:
            super().__init__()
            self.mix = nn.Conv2d(source_channels, target_channels, 1)

        def forward(self, source):
            return self.mix(source).tanh() if source.mean() > 0 else self.mix(-source).tanh()

    class Vectors(nn.Module):
        """Drops entries of a vector."""

        def __init__(self, source_channels: int, target_channels: int) -> None:
            super().__init__()
            self.mix, self.drop = nn.Linear(source_channels, target_channels), nn.Dropout(0.5)

        def forward(self, source):
            return source + self.drop(self.mix(source.mean((2, 3))))[:, :, None, None]

    class Blotchy(nn.Module):
        """Takes any size; drops whole channels, and normalises without weights of its own."""

        def __init__(self, source_channels: int, target_channels: int) -> None:
            super().__init__()
            self.first, self.drop = nn.Conv2d(source_channels, 8, 3, padding=1), nn.Dropout2d(0.5)
            self.norm, self.last = nn.BatchNorm2d(8, affine=False), nn.Conv2d(8, target_channels, 1)

        def forward(self, source):
            return self.last(self.drop(self.norm(self.first(source)))).tanh()

    from p2pkit.networks.latent import Latent, SpatialNoise

    class Grainy(nn.Module):
        """Adds noise at half the size, and a latent."""

        size_multiple, smallest_size = 2, 4

        def __init__(self, source_channels: int, target_channels: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(source_channels, 8, 4, 2, 1)
            self.last = nn.ConvTranspose2d(8, target_channels, 4, 2, 1)
            self.latent, self.norm, self.grain = Latent(8), nn.BatchNorm2d(8), SpatialNoise(4)

        def forward(self, source):
            values = self.norm(self.first(source)) + self.latent(source)[:, :, None, None]
            return self.last(values + self.grain(values).repeat(1, 2, 1, 1)).tanh()

    register("grainy", Grainy)
    register("moody", Moody)
    register("vectors", Vectors)
    register("blotchy", Blotchy)
'''


def in_onnx_runtime(file: Path) -> Callable[..., Tensor]:
    session = onnxruntime.InferenceSession(file)
    names = [one.name for one in session.get_inputs()]
    return lambda *inputs: torch.from_numpy(
        session.run(["target"], dict(zip(names, (value.numpy() for value in inputs), strict=True)))[0]
    )


def in_torch(file: Path) -> Callable[..., Tensor]:
    program: Callable[..., Tensor] = torch.export.load(file).module()
    return program


RUNTIMES = {"onnx": in_onnx_runtime, "torch_program": in_torch}


def exported(p2pkit: Call, model: Path, form: str, *options: object) -> Path:
    file = model.with_suffix(".pt2")
    outcome = p2pkit("export", model, "--format", form, "--out", file, *options)
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == str(file)
    return file


def images(batch: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(batch)) * 2 - 1


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return untrained_model(tmp_path / "model.safetensors", "unet", width=4, dropout=0.3, **SMALL["unet"])


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A plugin with an exporter, and with generators that are not easy to export."""
    folder = distribution(tmp_path / "plugins", "p2pkit-odd", "1", {"odd": "p2pkit_odd"})
    (folder / "p2pkit_odd.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def odd(plugins: Path, p2pkit: Call, tmp_path: Path) -> Callable[[str], Path]:
    """Makes models of the plugin's generators."""
    p2pkit("--plugins-dir", plugins, "plugins")
    return lambda name: untrained_model(tmp_path / "model.safetensors", name)


@pytest.mark.parametrize("form", library.components("exporters"))
@pytest.mark.parametrize("name", library.components("generators"))
def test_every_generator_does_the_same_in_every_format(name: str, form: str, tmp_path: Path, p2pkit: Call) -> None:
    model = untrained_model(tmp_path / "model.safetensors", name, width=4, **SMALL[name])
    file = exported(p2pkit, model, form)
    run, translate = RUNTIMES[form](file), library.load_model(model, "cpu", dropout=False)
    for size in SIZES:
        for batch in (1, 5):
            source = images(batch, size)
            assert torch.allclose(run(source), translate(source), rtol=0, atol=1e-4)
    about = metadata(form, file)
    assert (about["generator"], about["parameters"]) == (name, {"width": 4, **SMALL[name]})
    assert (about["source_channels"], about["target_dtype"], about["step"]) == (3, "uint8", 7)
    assert (about["policy"], about["noise"]) == ({"norm": "sample", "dropout": False}, [])
    assert about["p2pkit_version"] == library.__version__
    assert str(REPOSITORY).encode() not in file.read_bytes()


def test_onnx_files_are_valid_and_name_their_opset(model: Path, p2pkit: Call, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    outcome = p2pkit("export", tmp_path, "--out", file)
    assert "opset 18" in outcome.err and "largest difference" in outcome.err
    written = onnx.load(file)
    onnx.checker.check_model(written, full_check=True)
    assert [one.version for one in written.opset_import if one.domain == ""] == [18]
    (source,) = written.graph.input
    sides = [side.dim_param or side.dim_value for side in source.type.tensor_type.shape.dim]
    assert (source.name, sides) == ("source", ["batch", 3, "height", "width"])


def test_sources_may_be_called_as_what_the_graph_computes(tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "model.safetensors", "unet", width=4, depth=3)
    header, weights = read_model(model)
    sources = tuple(SourceHeader(name=name, channels=1, dtype="uint8") for name in ("target", "cat", "conv2d"))
    write_model(model, weights, header.model_copy(update={"sources": sources, "source_dtype": ""}))
    export_model(model, tmp_path / "model.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    given = images(1, (16, 24)).split(1, dim=1)
    names = ["source_target", "cat", "conv2d"]
    assert [one.name for one in session.get_inputs()] == names
    (found,) = session.run(["target"], {name: one.numpy() for name, one in zip(names, given, strict=True)})
    expected = library.load_model(model, "cpu", dropout=False)(torch.cat(given, dim=1))
    assert torch.allclose(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", ["sample", "batch", "running"])
@pytest.mark.parametrize("name", library.components("generators"))
def test_what_is_exported_follows_the_policy(name: str, norm: Any, tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "model.safetensors", name, width=4, **SMALL[name])
    translate = library.load_model(model, "cpu", norm, dropout=False)
    for size in SIZES:
        source = images(3, size) * torch.tensor([0.1, 0.5, 1.0])[:, None, None, None]
        found = Standalone(translate.generator, translate.policy)(source)
        assert torch.allclose(found, translate(source), rtol=0, atol=1e-4)


def test_the_policy_can_be_chosen(model: Path, p2pkit: Call) -> None:
    file = exported(p2pkit, model, "torch_program", "--norm", "running")
    source = images(2, (20, 40))
    of_training, own = (library.load_model(model, "cpu", norm, False)(source) for norm in ("running", "sample"))
    assert torch.allclose(in_torch(file)(source), of_training, rtol=0, atol=1e-4)
    assert not torch.allclose(of_training, own, atol=1e-2)


@pytest.mark.parametrize("form", RUNTIMES)
def test_noise_is_an_input_and_the_same_draws_give_translates_image(form: str, model: Path, p2pkit: Call) -> None:
    file = exported(p2pkit, model, form, "--dropout")
    run, about, source = RUNTIMES[form](file), metadata(form, file), images(1, (33, 70))
    padded = (48, 80)
    assert about["padding"]["to"] == {"size_multiple": 16, "smallest_size": 16}
    translate = library.load_model(model, "cpu")
    noise = [one.values for one in drawn_noise(translate.generator, source, noise_seeds(5, 1))]
    assert [list(mask.shape) for mask in noise] == [
        [1, one["channels"], *(side // part for side, part in zip(padded, one["size_divided_by"], strict=True))]
        for one in about["noise"]
    ]
    assert torch.allclose(run(source, *noise), translate(source, seed=5), rtol=0, atol=1e-4)
    others = [torch.rand_like(one) for one in noise]
    assert not torch.allclose(run(source, *others), run(source, *noise), atol=1e-2)


def metadata(form: str, file: Path) -> Any:
    extra = {"p2pkit": ""}
    if form == "onnx":
        extra = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    else:
        torch.export.load(file, extra_files=extra)
    return json.loads(extra["p2pkit"])


def test_what_differs_is_refused_and_leaves_nothing(model: Path, plugins: Path, p2pkit: Call, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    file = folder / "model.shifted"
    command = ("--plugins-dir", plugins, "export", model, "--format", "shifted", "--out", file)
    outcome = p2pkit(*command, "--set", "by=0.01")
    assert outcome.code == 2 and "differ from the model's by up to 1.0e-02" in outcome.err
    assert list(folder.iterdir()) == []
    assert p2pkit(*command, "--set", "by=nan").code == 2
    assert "shape [1, 2, 32, 32]; the model's" in p2pkit(*command, "--set", "dropped=1").err
    assert p2pkit(*command, "--set", "by=0.00001").code == 0
    assert file.read_text() == "shifted"
    assert p2pkit(*command, "--set", "by=0.01").code == 2
    assert [one.name for one in folder.iterdir()] == ["model.shifted"]


def test_what_cannot_be_captured_is_refused(odd: Callable[[str], Path], p2pkit: Call, plugins: Path) -> None:
    model = odd("moody")
    outcome = p2pkit("--plugins-dir", plugins, "export", model, "--out", model.parent / "model.onnx")
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert "the generator 'moody' cannot be exported as onnx" in outcome.err
    assert "if source.mean() > 0" in outcome.err and len(outcome.said) == 2
    assert not (model.parent / "model.onnx").exists()


def test_noise_of_vectors_is_refused(odd: Callable[[str], Path], p2pkit: Call, plugins: Path) -> None:
    command = (
        "--plugins-dir",
        plugins,
        "export",
        odd("vectors"),
        "--format",
        "torch_program",
        "--out",
        plugins / "model",
    )
    outcome = p2pkit(*command, "--dropout")
    assert outcome.code == 2 and "Export it with --no-dropout" in outcome.err
    assert p2pkit(*command).code == 0


def test_a_generator_of_any_size_and_noise_of_whole_channels(
    odd: Callable[[str], Path], p2pkit: Call, plugins: Path, tmp_path: Path
) -> None:
    model, file = odd("blotchy"), tmp_path / "model.onnx"
    outcome = p2pkit("--plugins-dir", plugins, "export", model, "--out", file, "--dropout")
    assert outcome.code == 0, outcome.err
    (noise,) = metadata("onnx", file)["noise"]
    layer = list(library.load_model(model, "cpu").generator.modules())[noise.pop("layer")]
    assert noise == {
        "name": "noise_0", "of": "dropout", "dropped": layer.p, "channels": 8, "size_divided_by": None,
    }  # fmt: skip
    kept, source = torch.ones(1, 8, 1, 1), images(1, (5, 9))
    assert in_onnx_runtime(file)(source, kept).shape == (1, 3, 5, 9)


@pytest.mark.parametrize("form", RUNTIMES)
def test_latents_and_spatial_noise_are_inputs(
    form: str, odd: Callable[[str], Path], p2pkit: Call, plugins: Path, tmp_path: Path
) -> None:
    model, file = odd("grainy"), tmp_path / "exported.pt2"
    command = ("--plugins-dir", plugins, "export", model, "--format", form, "--out", file)
    source = images(3, (33, 18))
    for options, dropout in (((), False), (("--dropout",), True)):
        outcome = p2pkit(*command, *options)
        assert outcome.code == 0, outcome.err
        translate = library.load_model(model, "cpu", dropout=dropout)
        noise = drawn_noise(translate.generator, source, noise_seeds(5, 3)) if dropout else []
        found = RUNTIMES[form](file)(source, *(one.values for one in noise))
        assert torch.allclose(found, translate(source, seed=5), rtol=0, atol=1e-4)
    assert [(one.kind, tuple(one.values.shape)) for one in noise] == [("latent", (3, 8)), ("spatial", (3, 4, 17, 9))]
    latent, spatial = (one.layer for one in noise)
    assert metadata(form, file)["noise"] == [
        {"name": "noise_0", "of": "latent", "layer": latent, "values": 8},
        {"name": "noise_1", "of": "spatial", "layer": spatial, "channels": 4, "size_divided_by": [2, 2]},
    ]


def test_a_missing_library_is_named(model: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    outcome = p2pkit("export", model, "--out", model.parent / "model.onnx")
    assert outcome.code == 2 and "needs onnxscript" in outcome.err
    assert "pip install 'p2pkit[export]'" in outcome.err


def test_a_pytorch_that_is_too_old_is_named(model: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    outcome = p2pkit("export", model, "--format", "torch_program", "--out", model.parent / "model.pt2")
    assert outcome.code == 2 and "needs PyTorch 2.11 or later; this is 2.9.1" in outcome.err
    assert "pip install --upgrade 'torch>=2.11' torchvision" in outcome.err


def test_an_unknown_format_gets_the_nearest_name(model: Path, p2pkit: Call) -> None:
    outcome = p2pkit("export", model, "--format", "onx", "--out", model.parent / "model.onnx")
    assert outcome.code == 2 and "did you mean 'onnx'?" in outcome.err
