"""Finds plugins: entry points of the group "p2pkit", of installed distributions and of source trees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions
from operator import attrgetter
from pathlib import Path
from typing import Any

from p2pkit import __version__
from p2pkit.errors import PluginError
from p2pkit.utils.opening import parsed_toml, read_regular

GROUP = "p2pkit"
OWN_DISTRIBUTION = "p2pkit"
LARGEST = 10**6
"""How many bytes of a pyproject.toml are read."""
DISTRIBUTION_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?", re.IGNORECASE)
"""What a distribution may be called (the packaging specifications, "Names and normalization")."""


@dataclass(frozen=True)
class FoundEntryPoint:
    """An entry point of the group, and what the metadata of its distribution say."""

    entry: EntryPoint
    distribution: str
    version: str
    wants: str
    """The versions of p2pkit that the distribution requires, such as ">=0.2"; empty when it states none."""
    is_foreign: bool = True
    """It is not one of p2pkit's own."""

    def fits(self) -> bool:
        """Whether this p2pkit is among the versions that it requires, where it requires any."""
        from packaging.specifiers import SpecifierSet  # takes longer than all else here

        return SpecifierSet(self.wants).contains(__version__, prereleases=True)


def installing(distribution: str, *, upgrade: bool = False) -> str:
    """The command that installs a distribution; where its name is none, which a command might follow, what is wrong."""
    if not DISTRIBUTION_NAME.fullmatch(distribution):
        return f"no distribution can be called {distribution!r}, so do not install it"
    return f"pip install --upgrade p2pkit {distribution}" if upgrade else f"pip install {distribution}"


def find_entry_points(source_trees: Sequence[Path] = ()) -> list[FoundEntryPoint]:
    """Every entry point of the group, the built-ins' first, then by name; ``source_trees`` go before what is installed.

    ``source_trees`` are the pyproject.toml files of distributions that need not be installed.
    """
    found: dict[tuple[str, str], FoundEntryPoint] = {}
    for one in _in_source_trees(source_trees) if source_trees else ():
        found[one.distribution, one.entry.name] = one
    for distribution in distributions():
        try:
            points = distribution.entry_points
        except (TypeError, ValueError):
            continue  # a broken file of another distribution is not our business
        for entry in points:
            if entry.group != GROUP:
                continue
            name = distribution.metadata["Name"] or "unknown distribution"
            wants = _required_versions(distribution.requires or ()) if name != OWN_DISTRIBUTION else ""
            version = distribution.metadata["Version"] or "of unknown version"
            one = FoundEntryPoint(entry, name, version, wants, name != OWN_DISTRIBUTION)
            found.setdefault((name, entry.name), one)  # the first on sys.path wins, as for imports
    by_name = sorted(found.values(), key=attrgetter("entry.name"))
    return sorted(by_name, key=attrgetter("is_foreign"))


def source_trees_in(folder: Path) -> list[Path]:
    """The pyproject.toml files in ``folder``, or in the folders in it, that have entry points of the group.

    Raises:
        PluginError: ``folder`` holds neither these nor the metadata of an installed distribution.
    """
    if not folder.is_dir():
        raise PluginError(f"--plugins-dir {folder}: there is no such folder")
    files = [file for file in (folder / "pyproject.toml", *folder.glob("*/pyproject.toml")) if file.is_file()]
    trees = [file for file in sorted(files) if _points_in(_project(file))]
    if not trees and not any(folder.glob("*.dist-info")):
        looked_at = ", ".join(str(file) for file in files) or "no pyproject.toml"
        raise PluginError(
            f"--plugins-dir {folder}: it holds no plugin. Expected a distribution whose pyproject.toml has a table "
            f"[project.entry-points.{GROUP}], in this folder or in one of its folders; found {looked_at}"
        )
    return trees


def _in_source_trees(files: Iterable[Path]) -> Iterable[FoundEntryPoint]:
    for file in files:
        project = _project(file)
        wants = _required_versions(project.get("dependencies", ()))
        for name, value in _points_in(project).items():
            entry = EntryPoint(name, value, GROUP)
            yield FoundEntryPoint(entry, project["name"], project.get("version", "(a source tree)"), wants)


def _project(file: Path) -> dict[str, Any]:
    try:
        project = parsed_toml(read_regular(file, LARGEST).decode()).get("project", {})
    except (OSError, ValueError) as error:
        raise PluginError(f"--plugins-dir: {file} cannot be read: {error}") from error
    if not isinstance(project, dict) or "name" not in project:
        return {}
    points, version, needs = _points_in(project), project.get("version", ""), project.get("dependencies", [])
    texts = [project["name"], version, *points.values(), *(needs if isinstance(needs, list) else [None])]
    if not all(isinstance(text, str) for text in texts):
        raise PluginError(f"--plugins-dir: {file}: its name, version, dependencies and entry points must be texts")
    return project


def _points_in(project: dict[str, Any]) -> dict[str, str]:
    groups = project.get("entry-points", {})
    points = groups.get(GROUP, {}) if isinstance(groups, dict) else {}
    return points if isinstance(points, dict) else {}


def _required_versions(requirements: Iterable[str]) -> str:
    wanted = []
    for text in requirements:
        if not text.lower().startswith(OWN_DISTRIBUTION):
            continue
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        with suppress(InvalidRequirement):
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and canonicalize_name(requirement.name) == OWN_DISTRIBUTION:
                wanted.append(str(requirement.specifier))
    return ",".join(filter(None, wanted))
