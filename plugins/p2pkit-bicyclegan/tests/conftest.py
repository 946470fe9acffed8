"""A recipe of BicycleGAN that trains in a blink."""

from __future__ import annotations

from pathlib import Path

import pytest

BICYCLE = """
[method]
name = "bicyclegan"
encoder_width = 4
encoder_blocks = 2

[[losses]]
name = "lsgan"

[[losses]]
name = "l1"
weight = 10
"""


@pytest.fixture
def bicycle(recipe: Path) -> Path:
    """The small recipe, with this method and its generator."""
    text = recipe.read_text()
    small, norm = "[generator]\ndepth = 3", '[discriminator]\nname = "patchgan_16"\n'
    assert small in text and norm in text
    text = text.replace(small, '[generator]\nname = "bicyclegan_unet"\ndepth = 3')
    file = recipe.with_name("bicycle.toml")
    file.write_text(text.replace(norm, f'{norm}norm = "instance"\nconditional = false\n') + BICYCLE)
    return file
