"""The plugin's README and recipes, executed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Call, picture, save, train

PLUGIN = Path(__file__).parent.parent
README = (PLUGIN / "README.md").read_text()
SMALL = (
    "transform.load_size=32", "transform.crop_size=32", "generator.depth=3", "generator.width=4", "train.max_steps=2",
    "method.encoder_width=4", "method.encoder_blocks=2", "discriminator.width=4", "metrics=[]",
)  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_examples_are_valid(program: Call, tmp_path: Path) -> None:
    assert blocks("toml")
    for example in blocks("toml"):
        file = tmp_path / "example.toml"
        file.write_text(example)
        outcome = program("show", file)
        assert outcome.code == 0, outcome.err


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and [link for link in links if not (PLUGIN / link).exists()] == []


def test_the_readmes_picture_is_small() -> None:
    (shown,) = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert (PLUGIN / shown).stat().st_size < 300_000


@pytest.mark.parametrize("name", ["quickstart", "facades"])
def test_the_recipes_train(name: str, program: Call, tmp_path: Path) -> None:
    assert f"p2pkit run bicyclegan:{name}" in README
    checked = program("check", f"bicyclegan:{name}", "--set", 'data.name="procedural_facades"')
    assert checked.code == 0 and "latent_discriminator of bicyclegan" in checked.out, checked.err
    few = ('data.name="procedural_facades"', "data.size=32", "data.pairs=4", "data.test_pairs=1", "loader.workers=0")
    train(program, Path(f"bicyclegan:{name}"), tmp_path / "run", *few, *SMALL)


def test_from_one_latent_to_another(
    program: Call, bicycle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(program, bicycle, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "labels.png", picture(24, 16, seed=1))
    (example,) = blocks("python")
    exec(example.replace('"model.safetensors"', repr(str(tmp_path / "run"))), {})
    between = [np.asarray(Image.open(tmp_path / f"between_{share}.png")) for share in range(5)]
    assert between[0].shape == (24, 16, 3) and not np.array_equal(between[0], between[4])
