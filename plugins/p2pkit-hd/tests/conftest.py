"""Drawn streets, the program with this plugin, and runs of both parts of the training at a size for tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from street_scenes import write_cityscapes

from tests.conftest import Call

GLOBAL = """
extends = "hd:small"

[run]
name = "streets"

[data]
name = "cityscapes"
root = "{root}"

[encoding]
name = "class_and_boundary"
classes = 27

[loader]
batch_size = 2
workers = 0

[transform]
load_size = [32, 64]
flip = true

[generator]
width = 8
halvings = 2
blocks = 1

[discriminator]
layers = 2
width = 4

[train]
epochs = 4
max_steps = 4
checkpoint_every = 1
keep_checkpoints = 9
log_every = 1
"""
LOCAL = """
extends = "{parent}"

[transform]
load_size = [64, 128]

[generator]
name = "hd_local"
width = 4
halvings = 2
blocks = 1
enhancer_blocks = 1

[method]
coarse_model = "{coarse}"
fixed_until = 0.5
"""


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """A data set in Cityscapes' folders: six streets in the train set, two in the test set, 64x128."""
    return write_cityscapes(tmp_path / "cityscapes", 6, 2)


@pytest.fixture
def coarse_recipe(tmp_path: Path, streets: Path) -> Path:
    """The global network, four steps."""
    file = tmp_path / "coarse.toml"
    file.write_text(GLOBAL.format(root=streets))
    return file


@pytest.fixture
def coarse_run(tmp_path: Path, coarse_recipe: Path, program: Call) -> Path:
    """The run folder of ``coarse_recipe``."""
    outcome = program("run", coarse_recipe, "--out", tmp_path / "coarse", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    return tmp_path / "coarse"


@pytest.fixture
def local_recipe(tmp_path: Path, coarse_recipe: Path, coarse_run: Path) -> Path:
    """A local enhancer around the network of ``coarse_run``, four steps, in two of which that is fixed."""
    file = tmp_path / "local.toml"
    file.write_text(LOCAL.format(parent=coarse_recipe, coarse=coarse_run / "model.safetensors"))
    return file
