"""The plugins of this repository, as if they were installed, and what p2pkit's own tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Call, Outcome, cache_folder, memory_given_back, p2pkit, pairs, recipe
from tests.plugins_in_tree import describe_in, in_tree, installed

__all__ = ["cache_folder", "memory_given_back", "p2pkit", "pairs", "recipe"]


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Path]:
    """A folder for --plugins-dir that holds each distribution in plugins/, linked; p2pkit has them already."""
    folder = describe_in(tmp_path / "plugins")
    for place, project in in_tree():
        module = project["name"].replace("-", "_")
        (folder / module).symlink_to(place / module)
    with installed(folder):
        yield folder


@pytest.fixture
def program(p2pkit: Call, plugins: Path) -> Call:
    """Calls p2pkit with the plugins of this repository."""

    def call(*arguments: object) -> Outcome:
        return p2pkit("--plugins-dir", plugins, *arguments)

    return call
