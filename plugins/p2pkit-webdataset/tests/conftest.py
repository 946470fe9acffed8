"""Shards of the small pairs, and a recipe that trains on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Call, Outcome

SPLIT = '[data]\nname = "side_by_side"\nroot = "{}"\n'


@pytest.fixture
def program(p2pkit: Call, plugins: Path) -> Call:
    """Calls p2pkit with the plugins of this repository."""

    def call(*arguments: object) -> Outcome:
        return p2pkit("--plugins-dir", plugins, *arguments)

    return call


@pytest.fixture
def shards(program: Call, recipe: Path, tmp_path: Path) -> Path:
    """The small pairs in shards of two: three to train on, one held out."""
    made = program("data", "shard", recipe, "--out", tmp_path / "shards", "--pairs-per-shard", 2)
    assert made.code == 0, made.err
    return tmp_path / "shards"


@pytest.fixture
def sharded(shards: Path, recipe: Path, pairs: Path) -> Path:
    """The small recipe, on shards."""
    file = recipe.with_name("sharded.toml")
    data = SPLIT.format(pairs)
    assert data in recipe.read_text()
    file.write_text(recipe.read_text().replace(data, f'[data]\nname = "webdataset"\nroot = "{shards}"\n'))
    return file
