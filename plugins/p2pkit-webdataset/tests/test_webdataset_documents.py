"""What the plugin's README and its recipe say, done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Call

PLUGIN = Path(__file__).parent.parent
README = (PLUGIN / "README.md").read_text()


def test_the_examples_are_valid(program: Call, tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        file = tmp_path / "example.toml"
        file.write_text(example)
        outcome = program("show", file)
        assert outcome.code == 0, outcome.err


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and [link for link in links if not (PLUGIN / link).exists()] == []


def test_the_recipe_trains_as_it_says(program: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe,) = (PLUGIN / "recipes").glob("*.toml")
    made = re.search(r"p2pkit (data shard) (\S+) (--out \S+ --pairs-per-shard \d+)", recipe.read_text())
    assert made is not None
    source = (PLUGIN / "../.." / made[2]).resolve()
    monkeypatch.chdir(tmp_path)
    few = ("--set", "data.pairs=4", "--set", "data.test_pairs=1")
    assert program(*made[1].split(), source, *made[3].split(), *few).code == 0
    outcome = program("run", recipe, "--out", tmp_path / "run", "--set", "train.max_steps=2", "--set", "metrics=[]")
    assert outcome.code == 0, outcome.err
