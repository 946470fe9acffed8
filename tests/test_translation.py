"""Model files and what they make of images: in any company, of any size, in any form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import p2pkit as library
from p2pkit.errors import DataError, ModelFileError
from p2pkit.inference.model_file import read_header
from p2pkit.inference.policy import Policy
from p2pkit.inference.translator import Translator
from tests.conftest import Call, picture, save
from tests.model_files import change, change_header


@pytest.fixture
def translator(model: Path) -> Translator:
    return library.load_model(model, device="cpu")


def test_the_header_says_what_the_model_is(model: Path) -> None:
    header = read_header(model)
    assert (header.generator, header.source_channels, header.step) == ("unet", 3, 7)
    assert header.policy == Policy(norm="sample", dropout=True)


def test_results_do_not_depend_on_the_batch(translator: Translator) -> None:
    torch.manual_seed(0)
    images = torch.rand(5, 3, 32, 48) * 2 - 1
    together = translator(images, seed=3)
    for index in range(5):
        assert torch.equal(together[index], translator(images[index], seed=3))
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_translating_leaves_no_trace(translator: Translator) -> None:
    translator.generator.train()
    before = {key: value.clone() for key, value in translator.generator.state_dict().items()}
    state = torch.get_rng_state()
    translator(torch.zeros(1, 3, 16, 16))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in translator.generator.modules())
    assert all(torch.equal(before[key], value) for key, value in translator.generator.state_dict().items())


def test_seeds_draw_the_noise(model: Path, translator: Translator) -> None:
    image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(3, 32, 32)
    assert torch.equal(translator(image, seed=1), translator(image, seed=1))
    assert not torch.allclose(translator(image, seed=1), translator(image, seed=2), atol=1e-2)
    still = library.load_model(model, device="cpu", dropout=False)
    assert torch.equal(still(image, seed=1), still(image, seed=2))


def test_policies_of_batch_norm(model: Path) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32) * torch.tensor([0.1, 1.0])[:, None, None, None]
    outputs: dict[str, Any] = {}
    for norm in ("sample", "batch", "running"):
        outputs[norm] = library.load_model(model, device="cpu", norm=norm, dropout=False)
    alone = {norm: translate(images[:1]) for norm, translate in outputs.items()}
    together = {norm: translate(images)[:1] for norm, translate in outputs.items()}
    assert torch.allclose(alone["sample"], together["sample"], atol=1e-5)
    assert torch.allclose(alone["running"], together["running"], atol=1e-5)
    assert torch.allclose(alone["batch"], alone["sample"], atol=1e-5)
    assert not torch.allclose(alone["batch"], together["batch"], atol=1e-2)
    reference = library.load_model(model, device="cpu").generator
    for module in reference.modules():
        module.training = isinstance(module, torch.nn.BatchNorm2d)
    assert torch.allclose(reference(images)[:1], together["batch"], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (30, 41), (64, 16)])
def test_any_size(translator: Translator, size: tuple[int, int]) -> None:
    assert translator(np.zeros((*size, 3), dtype=np.uint8)).shape == (*size, 3)


def test_every_form_of_image_comes_back_in_kind(translator: Translator, tmp_path: Path) -> None:
    pixels = picture(32, 32, 0)
    file = save(tmp_path / "a.png", pixels)
    array = translator(pixels)
    assert isinstance(array, np.ndarray) and array.dtype == np.uint8
    for form in (str(file), file, Image.fromarray(pixels)):
        image = translator(form)
        assert isinstance(image, Image.Image)
        assert np.array_equal(np.asarray(image), array)
    tensor = translator(torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 127.5 - 1)
    assert np.abs((tensor.numpy().transpose(1, 2, 0) + 1) * 127.5 - array).max() <= 0.51
    of_array, of_file = translator([pixels, file])
    assert np.array_equal(of_array, array) and np.array_equal(np.asarray(of_file), array)
    with pytest.raises(DataError, match="found dict"):
        translator({"image": pixels})
    with pytest.raises(DataError, match="found int"):
        translator([1, 2])


def test_the_command_keeps_the_tree_and_says_what_failed(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    save(folder / "a.jpg", picture(20, 30, 0))
    save(folder / "deep" / "b.png", picture(30, 20, 1))
    save(folder / "gray.png", picture(20, 20, 2, channels=1))
    (folder / "text.png").write_text("no image")
    save(folder / "deep" / "b.webp", picture(30, 20, 1))
    outcome = p2pkit("translate", model, folder, "--out", out)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert "images could not be translated; the other" in outcome.err
    for named in ("gray.png: it has 1 channel", "text.png: this is not an image", "b.webp: its output"):
        assert named in outcome.err
    written = {str(file.relative_to(out)): Image.open(file).size for file in out.rglob("[a-z]*") if file.is_file()}
    assert written == {"a.png": (30, 20), "deep/b.png": (20, 30)}


def test_sources_are_never_replaced(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    file = save(tmp_path / "in" / "a.png", picture(20, 30, 0))
    before = file.read_bytes()
    outcome = p2pkit("translate", model, file, "--out", tmp_path / "in")
    assert outcome.code == 2 and "would replace the source" in outcome.err
    assert file.read_bytes() == before


def test_tensors_of_other_channels_are_refused(translator: Translator) -> None:
    for wrong in (torch.zeros(1, 4, 16, 16), torch.zeros(16, 16)):
        with pytest.raises(DataError, match=r"this model takes \[N, 3, H, W\]"):
            translator(wrong)


def test_the_command_and_python_agree(model: Path, translator: Translator, tmp_path: Path, p2pkit: Call) -> None:
    file = save(tmp_path / "a.png", picture(32, 32, 0))
    assert p2pkit("translate", model, file, "--out", tmp_path / "o", "--seed", 5, "--device", "cpu").code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "o" / "a.png")), translator(picture(32, 32, 0), seed=5))


def test_the_folder_of_a_run_stands_for_its_model(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    file = save(tmp_path / "a.png", picture(32, 32, 0))
    assert p2pkit("translate", model.parent, file, "--out", tmp_path / "o").code == 0


@pytest.mark.parametrize("norm", ["sample", "batch", "running"])
def test_each_of_several_samples_has_noise_of_its_own(norm: str, model: Path, tmp_path: Path, p2pkit: Call) -> None:
    file = save(tmp_path / "a.png", picture(32, 32, 0))
    for out in ("o", "again"):
        done = p2pkit("translate", model, file, "--out", tmp_path / out, "--samples", 4, "--seed", 3, "--norm", norm)
        assert done.code == 0 and "samples of an image are the same" not in done.err
    made = [(tmp_path / "o" / f"a_{number}.png").read_bytes() for number in range(4)]
    assert len(set(made)) == 4
    assert made == [(tmp_path / "again" / f"a_{number}.png").read_bytes() for number in range(4)]
    # the k-th is that of the seed k further on
    assert p2pkit("translate", model, file, "--out", tmp_path / "one", "--seed", 5, "--norm", norm).code == 0
    assert (tmp_path / "one" / "a.png").read_bytes() == made[2]
    without = p2pkit("translate", model, file, "--out", tmp_path / "p", "--samples", 2, "--no-dropout", "--norm", norm)
    assert without.code == 0 and "all samples of an image are the same" in without.err
    assert (tmp_path / "p" / "a_0.png").read_bytes() == (tmp_path / "p" / "a_1.png").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "no such model file"),
        (lambda file: file.write_bytes(b""), "damaged or incomplete"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "damaged or incomplete"),
        (lambda file: save_file(load_file(file), file), "not a p2pkit model"),
        (lambda file: change(file, format_version=4), "Upgrade p2pkit"),
        (lambda file: change(file, header={}), "header of the model file is damaged"),
        (lambda file: change_header(file, generator="vanished", distribution="p2pkit-x"), "pip install p2pkit-x"),
        (lambda file: change_header(file, parameters={"depth": 5}), "cannot be rebuilt"),
        (lambda file: change_header(file, parameters={"depht": 4}), "did you mean 'depth'?"),
    ],
    ids=["missing", "empty", "truncated", "foreign", "newer", "headless", "plugin", "other", "misspelt"],
)
def test_bad_model_files_are_named_as_what_they_are(spoil: Any, said: str, model: Path, p2pkit: Call) -> None:
    spoil(model)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        library.load_model(model)
    outcome = p2pkit("translate", model, model.parent, "--out", model.parent / "o")
    assert outcome.code == 2 and said in outcome.err.replace("\n", " ") and "Traceback" not in outcome.err


def test_a_missing_input_is_named(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    outcome = p2pkit("translate", model, tmp_path / "nowhere.png", "--out", tmp_path / "o")
    assert outcome.code == 2 and "nowhere.png" in outcome.err
