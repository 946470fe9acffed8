"""The distributions in plugins/, as if they were installed."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pkit.components.host import configure, manager
from p2pkit.testing import components_of
from tests.conftest import REPOSITORY, distribution


def in_tree() -> list[tuple[Path, dict[str, Any]]]:
    """The folder of each distribution in plugins/, and the project that its pyproject.toml describes."""
    files = sorted((REPOSITORY / "plugins").glob("*/pyproject.toml"))
    return [(file.parent, tomllib.loads(file.read_text())["project"]) for file in files]


def describe_in(folder: Path) -> Path:
    """Describe the distributions in ``folder``, which --plugins-dir may then name, as installed."""
    folder.mkdir(exist_ok=True)
    for _, project in in_tree():
        distribution(folder, project["name"], project["version"], project["entry-points"]["p2pkit"])
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Let p2pkit find the distributions that are described in ``folder``, for a while."""
    before = list(sys.path)
    sys.path[:0] = [str(place) for place, _ in in_tree()]
    try:
        configure(plugins_dir=folder)
        yield
    finally:
        sys.path[:] = before
        configure()


def registered_by(name: str) -> list[tuple[str, str]]:
    """Kind and name of every component of the distribution called ``name``, for a test to be parametrised with."""
    with TemporaryDirectory() as folder, installed(describe_in(Path(folder))):
        found = components_of(name)
        problems = [plugin.problem for plugin in manager().broken() if plugin.distribution == name]
    assert not problems, f"{name} cannot be tested: {problems}"
    return found
