"""Shards of the small pairs, and a recipe that trains on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pkit.downloads import download as download_module
from p2pkit_webdataset import cache as cache_module
from tests.conftest import Call
from tests.web import Site, served

SPLIT = '[data]\nname = "side_by_side"\nroot = "{}"\n'


@pytest.fixture
def shards(program: Call, recipe: Path, tmp_path: Path) -> Path:
    """The small pairs in shards of two: three to train on, one to test on."""
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


@pytest.fixture
def site(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The shards on a web server, of which no test waits long."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(cache_module, "PAUSES", (0.3, 0.3))
    with served(Site(folder=shards)) as site:
        yield site
