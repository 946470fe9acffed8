"""pix2pixHD on several sources, one of which is encoded, masks, and targets that are larger than their sources."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from street_scenes import street

from tests.conftest import Call, picture, save

SAMPLES = """
[data]
name = "paired_folders"
root = "{root}"
source = ["maps", "depth"]
mask = "weights"

[source.depth]

[source.maps.encoding]
name = "class_and_boundary"
classes = 27

[loader]
batch_size = 2
workers = 0

[transform]
load_size = [32, 64]
flip = true

[generator]
name = "hd_global"
width = 8
halvings = 2
blocks = 1

[discriminator]
name = "hd_multiscale"
scales = 2
layers = 2
width = 4

[[losses]]
name = "lsgan"

[[losses]]
name = "feature_matching"
weight = 5

[method]
name = "pix2pix_hd"

[train]
max_steps = 4
checkpoint_every = 1
keep_checkpoints = 9
log_every = 1
"""
LOCAL = ("generator.name=hd_local", "generator.width=4", "generator.halvings=2", "generator.blocks=1",
         "generator.enhancer_blocks=1", "method.fixed_until=0.5", "transform.load_size=[64, 128]")  # fmt: skip


def scenes(root: Path, scale: int = 1) -> Path:
    """Maps of instances with depths, and photos of ``scale`` times their size, of which half counts."""
    for split, seeds in (("train", range(6)), ("val", (6, 7))):
        for seed in seeds:
            name, (objects, photo) = f"{seed}.png", street(seed)
            height, width = objects.shape
            weights = np.full((height * scale, width * scale), 255, np.uint8)
            weights[:, : width * scale // 2] = 0
            save(root / split / "maps" / name, objects)
            save(root / split / "depth" / name, picture(height, width, seed, 1)[:, :, 0].astype(np.uint16) * 16)
            save(root / split / "target" / name, photo.repeat(scale, 0).repeat(scale, 1))
            save(root / split / "weights" / name, weights)
    return root


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """The global network on these scenes, four steps."""
    file = tmp_path / "samples.toml"
    file.write_text(SAMPLES.format(root=scenes(tmp_path / "scenes")))
    return file


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_two_sources_and_a_mask_in_both_phases(samples: Path, tmp_path: Path, program: Call) -> None:
    assert program("check", samples).code == 0
    coarse, run, half = tmp_path / "coarse", tmp_path / "run", tmp_path / "half"
    outcome = program("run", samples, "--out", coarse)
    assert outcome.code == 0, outcome.err
    local = words(*LOCAL, f"method.coarse_model={coarse}")
    outcome = program("run", samples, "--out", run, *local)
    assert outcome.code == 0, outcome.err
    shutil.copytree(run, half)
    for step in (3, 4):
        shutil.rmtree(half / f"checkpoints/step_{step:08}")
    assert program("run", "--resume", half).code == 0
    assert (half / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    named = [word for name in ("maps", "depth") for word in ("--source", f"{name}={tmp_path}/scenes/val/{name}")]
    for folder, extra in (("whole", ()), ("tiles", ("--tile", "48", "--overlap", "16"))):
        outcome = program("translate", run, *named, "--out", tmp_path / folder, *extra)
        assert outcome.code == 0, outcome.err
    for file in ("whole/6.png", "tiles/6.tif"):
        assert np.asarray(Image.open(tmp_path / file)).shape == (*street(6)[0].shape, 3)


@pytest.mark.parametrize("settings", [(), ("generator.name=hd_local", "generator.width=2")])
def test_targets_of_twice_the_size_are_refused(
    settings: tuple[str, ...], samples: Path, tmp_path: Path, program: Call
) -> None:
    shutil.rmtree(tmp_path / "scenes")
    scenes(tmp_path / "scenes", scale=2)
    for command in (("check", samples), ("run", samples, "--out", tmp_path / "run")):
        outcome = program(*command, *words(*settings))
        name = "hd_local" if settings else "hd_global"
        assert outcome.code == 2 and f"'{name}'" in outcome.err, outcome.err
        assert "the targets are 2 times as high and wide; choose one that takes scale" in outcome.err
        assert outcome.err.count("Error") == 1 and "Traceback" not in outcome.err


def test_cityscapes_itself_has_one_source_and_no_masks(coarse_recipe: Path, program: Call) -> None:
    for setting, reason in (
        ('data.source=["maps", "depth"]', "data.source: unknown key"), ("data.mask=weights", "data.mask: unknown key"),
        ("source.maps.range=type", "encoding: with several sources each has its own: [source.NAME.encoding]"),
    ):  # fmt: skip
        outcome = program("check", coarse_recipe, "--set", setting)
        assert outcome.code == 2 and reason in outcome.err and "Traceback" not in outcome.err, outcome.err
