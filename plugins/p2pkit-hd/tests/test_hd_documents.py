"""The plugin's README and recipes, executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Call

PLUGIN = Path(__file__).parent.parent
README = (PLUGIN / "README.md").read_text()
RECIPES = sorted(file.stem for file in (PLUGIN / "p2pkit_hd/recipes").glob("*.toml"))


def test_the_examples_are_valid(program: Call, tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        file = tmp_path / "example.toml"
        file.write_text(example)
        outcome = program("show", file)
        assert outcome.code == 0, outcome.err


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and [link for link in links if not (PLUGIN / link).exists()] == []


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_valid_by_name_and_in_the_readme(name: str, program: Call) -> None:
    assert f"p2pkit run hd:{name}" in README
    outcome = program("show", f"hd:{name}")
    assert outcome.code == 0, outcome.err
    assert 'name = "class_and_boundary"' in outcome.out


@pytest.mark.slow
def test_the_published_networks_are_what_the_recipes_name(program: Call, streets: Path) -> None:
    losses = [(f"losses.{place}.name", "l1") for place in (2,)]  # without weights that nobody has here
    words = [word for key, value in (*losses, ("data.root", streets)) for word in ("--set", f"{key}={value}")]
    coarse = program("check", "hd:cityscapes_512", *words)
    assert coarse.code == 0, coarse.err
    assert "182.547 M parameters, 1x512x1024 -> 3x512x1024" in coarse.out
    local = program(
        "check", "hd:cityscapes_1024", *words, "--set", f"method.coarse_model={streets / 'model.safetensors'}"
    )
    assert local.code == 0, local.err
    assert "182.857 M parameters, 1x1024x2048 -> 3x1024x2048" in local.out and local.out.count("1x126x254") == 1
