"""The plugins of this repository, as if they were installed, and what p2pkit's own tests share."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pkit.plugins import configure
from tests.conftest import REPOSITORY, cache_folder, distribution, p2pkit, pairs, recipe

__all__ = ["cache_folder", "p2pkit", "pairs", "recipe"]


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Path]:
    """A folder for --plugins-dir that holds each distribution in plugins/, linked."""
    before = list(sys.path)
    folder = tmp_path / "plugins"
    for file in sorted((REPOSITORY / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(file.read_text())["project"]
        module = project["name"].replace("-", "_")
        distribution(folder, project["name"], project["version"], project["entry-points"]["p2pkit"])
        (folder / module).symlink_to(file.parent / module)
    yield folder
    sys.path[:] = before
    configure()
