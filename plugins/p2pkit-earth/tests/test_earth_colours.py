"""Colorization of real photographs: the satellite's images alone, of which some have not been seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import p2pkit as library
from tests.conftest import Call

SIDE = 32
RECIPE = """
extends = "p2pkit:colorization"
generator = {{ name = "unet", depth = 4, width = 8 }}
discriminator = {{ name = "patchgan_16", width = 8 }}
optimizer = {{ name = "adam", lr = 1e-3, betas = [0.5, 0.999] }}

[data]
name = "photos"
root = "{root}"

[loader]
workers = 0
cache = "memory"

[transform]
load_size = {side}
crop_size = {side}

[train]
max_steps = 60

[validation]
baseline = "source"
"""


@pytest.mark.usefixtures("plugins")
def test_a_short_run_colours_photographs_that_it_has_not_seen_better_than_gray(program: Call, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "photos" / split).mkdir(parents=True)
        tiles = library.create("datasets", "relief_to_satellite", split=split, tile=128, stride=256)
        for index in range(min(60, len(tiles))):
            photograph = Image.fromarray(tiles[index].target).resize((SIDE, SIDE), Image.Resampling.BOX)
            photograph.save(tmp_path / "photos" / split / f"{index}.png")
    file = tmp_path / "colours.toml"
    file.write_text(RECIPE.format(root=tmp_path / "photos", side=SIDE))
    outcome = program("run", file, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    found = {}
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        found |= json.loads(line)
    for name in ("lab_a", "lab_b"):
        assert found[f"validation/{name}"] > found[f"source/{name}"] + 0.2, found
