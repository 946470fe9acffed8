"""The plugin's README and recipes, executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Call

PLUGIN = Path(__file__).parent.parent
README = (PLUGIN / "README.md").read_text()


def test_the_example_is_valid(program: Call, tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "example.toml").write_text(example)
    outcome = program("check", tmp_path / "example.toml")
    assert outcome.code == 0 and "256x256" in outcome.out, outcome.err


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and [link for link in links if not (PLUGIN / link).exists()] == []


@pytest.mark.parametrize("recipe", sorted(file.stem for file in (PLUGIN / "p2pkit_earth" / "recipes").iterdir()))
def test_the_recipes_are_named_and_valid(program: Call, recipe: str) -> None:
    assert f"`earth:{recipe}`" in README
    outcome = program("check", f"earth:{recipe}")
    assert outcome.code == 0, outcome.err
