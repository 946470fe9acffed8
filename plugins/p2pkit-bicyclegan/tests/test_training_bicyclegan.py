"""BicycleGAN through the command line: four networks trained, resumed, on two processes, translated, exported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import p2pkit as library
from p2pkit.networks.latent import Latent
from tests.conftest import Call, lines, train

NETWORKS = ("generator", "encoder", "discriminator", "latent_discriminator")
TERMS = ("lsgan", "l1", "random_lsgan", "kl_divergence", "latent_regression")
WITHOUT_NOISE = Path(__file__).with_name("bicyclegan_without_noise.py")


@pytest.fixture
def run(program: Call, bicycle: Path, tmp_path: Path) -> Path:
    return train(program, bicycle, tmp_path / "run")


def test_four_networks_train_and_resume_exactly(run: Path, program: Call, bicycle: Path, tmp_path: Path) -> None:
    half = train(program, bicycle, tmp_path / "half", "train.max_steps=2")
    first = load_file(half / "checkpoints/step_00000002/networks.safetensors")
    resumed = program("run", "--resume", half, "--set", "train.max_steps=4")
    assert resumed.code == 0 and re.search(
        r"  D \S+  G \S+  L1 \S+  random_lsgan \S+ .* latent_discriminator lsgan \S+  epoch 2\n", resumed.err
    ), resumed.err
    for file in ("model.safetensors", "checkpoints/step_00000004/networks.safetensors"):
        assert (half / file).read_bytes() == (run / file).read_bytes()
    last = load_file(run / "checkpoints/step_00000004/networks.safetensors")
    changed = {name.partition("|")[0] for name in first if not torch.equal(first[name], last[name])}
    assert changed == set(NETWORKS)
    metrics = lines(run)[0]
    lowered = {*(f"generator/{term}" for term in TERMS), "discriminator/lsgan", "latent_discriminator/lsgan"}
    assert lowered <= metrics.keys() and {f"{name}/lr" for name in NETWORKS} <= metrics.keys()


def test_the_model_file_holds_the_generator_alone(run: Path, program: Call) -> None:
    about = json.loads(program("inspect", run, "--json").out)
    assert (about["generator"], about["distribution"]) == ("bicyclegan_unet", "p2pkit-bicyclegan")
    generator = library.load_model(run, "cpu").generator
    assert load_file(run / "model.safetensors").keys() == generator.state_dict().keys()


def test_samples_differ_and_can_be_had_again(run: Path, program: Call, pairs: Path, tmp_path: Path) -> None:
    source = next((pairs / "test").iterdir())
    for folder in ("a", "b"):
        assert program("translate", run, source, "--out", tmp_path / folder, "--samples", 3, "--seed", 5).code == 0
    images, again = (
        [np.asarray(Image.open(tmp_path / folder / f"{source.stem}_{sample}.png")) for sample in range(3)]
        for folder in ("a", "b")
    )
    assert all(np.array_equal(one, other) for one, other in zip(images, again, strict=True))
    assert all(not np.array_equal(one, other) for one, other in pairwise(images))


def test_an_exported_generator_takes_latents(run: Path, program: Call, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    outcome = program("export", run, "--out", file, "--dropout")
    assert outcome.code == 0, outcome.err
    about = json.loads(onnx.load(file).metadata_props[0].value)
    generator = library.load_model(run, "cpu").generator
    (layer,) = (number for number, each in enumerate(generator.modules()) if isinstance(each, Latent))
    assert about["noise"] == [{"name": "noise_0", "of": "latent", "layer": layer, "values": 8}]
    source, latent = torch.rand(2, 3, 16, 24) * 2 - 1, torch.randn(2, 8)
    given = {"source": source.numpy(), "noise_0": latent.numpy()}
    (found,) = onnxruntime.InferenceSession(file).run(None, given)
    with torch.no_grad():
        expected = generator(source, latent)
    assert np.abs(found - expected.numpy()).max() < 1e-4


def test_a_generator_without_a_latent_is_refused_before_the_run(program: Call, bicycle: Path, tmp_path: Path) -> None:
    for command in (("check", bicycle), ("run", bicycle, "--out", tmp_path / "run")):
        outcome = program(*command, "--set", 'generator.name="unet"', "--set", "generator.depth=3")
        assert outcome.code == 2 and "the generator (UNet) takes no latent. Choose 'bicyclegan_unet'" in outcome.err
    assert not (tmp_path / "run").exists()


def test_images_too_small_for_the_encoder_are_refused(program: Call, bicycle: Path, tmp_path: Path) -> None:
    outcome = program("run", bicycle, "--out", tmp_path / "run", "--set", "method.encoder_blocks=4")
    assert outcome.code == 2 and "method.encoder_blocks: 4 blocks take images from 32" in outcome.err
    assert "Traceback" not in outcome.err


def test_precision_and_ema(program: Call, bicycle: Path, tmp_path: Path) -> None:
    settings = ('train.precision="bf16"', "train.ema_decay=0.5")
    run = train(program, bicycle, tmp_path / "run", *settings)
    trained = load_file(run / "checkpoints/step_00000004/networks.safetensors")
    model = load_file(run / "model.safetensors")
    assert all(value.isfinite().all() for value in trained.values())
    assert any(not torch.equal(value, trained[f"generator|{name}"]) for name, value in model.items())


def test_a_step_that_is_not_finite_is_replayed(program: Call, bicycle: Path, tmp_path: Path) -> None:
    outcome = program("run", bicycle, "--out", tmp_path / "run", "--set", "optimizer.encoder.lr=1e38")
    assert outcome.code == 2 and "the loss of the discriminator is not a finite number" in outcome.err
    (left,) = (tmp_path / "run/not_finite").iterdir()
    replayed = program("replay", left)
    assert replayed.code == 0, replayed.err
    assert "encoder: the output of" in replayed.out and "is the first that is not finite" in replayed.out


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(plugins: Path, bicycle: Path, tmp_path: Path) -> None:
    """Each draws noise of its own, so there is none here: what remains must not depend on the processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    settings = ("optimizer.name=sgd", "optimizer.lr=0.001")
    for processes in ("1", "2"):
        arguments = ("--plugins-dir", plugins, "run", bicycle, "--out", tmp_path / processes, "--device", "cpu")
        words = [*map(str, arguments), *(word for setting in settings for word in ("--set", setting))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [*launch, processes, str(WITHOUT_NOISE), *words], env=environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    one, two = (load_file(tmp_path / name / "checkpoints/step_00000004/networks.safetensors") for name in ("1", "2"))
    before = load_file(tmp_path / "1/checkpoints/step_00000002/networks.safetensors")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    changed = {name.partition("|")[0] for name in one if float((one[name] - before[name]).abs().max()) > 1e-5}
    assert changed == set(NETWORKS)


def test_both_discriminators_are_augmented(program: Call, bicycle: Path, tmp_path: Path) -> None:
    policy = 'discriminator_augmentation.policy=["colour", "translation", "cutout"]'
    adaptive = [f"discriminator_augmentation.{key}" for key in ("adaptive_target=0.01", "adaptive_images=50")]
    run = train(program, bicycle, tmp_path / "run", policy, *adaptive, "train.max_steps=2")
    last = load_file(run / "checkpoints/step_00000002/networks.safetensors")
    for name in ("discriminator", "latent_discriminator"):
        assert float(last[f"{name}|real_sign"]) == lines(run)[1][f"{name}/real_sign"] != 0
        assert float(last[f"{name}|probability"]) == lines(run)[1][f"{name}/augment_probability"]
