"""Finds who extends p2pkit here: the entry points of the group "p2pkit", and for which p2pkit they are built."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

from p2pkit.version import __version__

GROUP = "p2pkit"
OWN_DISTRIBUTION = "p2pkit"


@dataclass(frozen=True)
class FoundEntryPoint:
    """An entry point of the group, and what the metadata of its distribution say."""

    entry: EntryPoint
    distribution: str
    version: str
    wants: str
    """The versions of p2pkit that the distribution asks for, such as ">=0.2"; empty when it says nothing of them."""

    @property
    def fits(self) -> bool:
        """Whether this p2pkit is among the versions that it asks for."""
        if not self.wants:
            return True
        from packaging.specifiers import SpecifierSet  # takes longer than all else here

        return SpecifierSet(self.wants).contains(__version__, prereleases=True)


def found_entry_points() -> list[FoundEntryPoint]:
    """Every entry point of the group; built-ins first, then by name."""
    found: dict[tuple[str, str], FoundEntryPoint] = {}
    for distribution in distributions():
        for entry in _entry_points(distribution):
            name = distribution.metadata["Name"] or "unknown distribution"
            version = distribution.metadata["Version"] or "of unknown version"
            wants = _wanted(distribution.requires or ()) if name != OWN_DISTRIBUTION else ""
            # the first on sys.path wins, as it does for imports
            found.setdefault((name, entry.name), FoundEntryPoint(entry, name, version, wants))
    return sorted(
        found.values(), key=lambda one: (one.distribution != OWN_DISTRIBUTION, one.entry.name, one.distribution)
    )


def _entry_points(distribution: Distribution) -> list[EntryPoint]:
    try:
        return [entry for entry in distribution.entry_points if entry.group == GROUP]
    except (TypeError, ValueError):
        return []  # another distribution's broken file is none of our business


def _wanted(requirements: Iterable[str]) -> str:
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
