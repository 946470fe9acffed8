"""What a new plugin is called, in each of the places that need a name."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from p2pkit.components.discovery import OWN_DISTRIBUTION
from p2pkit.components.host import manager
from p2pkit.components.kinds import SINGULAR
from p2pkit.errors import PluginError, visible

ALLOWED = "lowercase letters from a to z, digits, and single hyphens between them, beginning with a letter"
_PATTERN = re.compile("[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST = 30


@dataclass(frozen=True)
class Names:
    """The names of a plugin that provides one component of a kind."""

    name: str
    """Of the component in recipes, and of the plugin: ``red_stripes``."""
    kind: str

    @property
    def distribution(self) -> str:
        """What pip installs: ``p2pkit-red-stripes``."""
        return f"{OWN_DISTRIBUTION}-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        """What Python imports: ``p2pkit_red_stripes``."""
        return f"{OWN_DISTRIBUTION}_{self.name}"

    @property
    def singular(self) -> str:
        """What one component of the kind is called: ``generator``, ``image format``."""
        return SINGULAR[self.kind]

    @property
    def module(self) -> str:
        """The module that holds it: ``generator``, ``image_format``."""
        return self.singular.replace(" ", "_")

    @property
    def component(self) -> str:
        """The class: ``RedStripesGenerator``."""
        return "".join(word.capitalize() for word in (*self.name.split("_"), *self.singular.split()))


def checked_names(given: str, kind: str) -> Names:
    """The names of a new plugin called ``given``, with or without "p2pkit-" before it.

    Raises:
        PluginError: a plugin cannot have that name, or it is taken.
    """
    short = re.sub(rf"^{OWN_DISTRIBUTION}[-_]", "", given)
    _refuse_invalid(given, short)
    names = Names(short.replace("-", "_"), kind)
    taken = _taken(names)
    if taken:
        raise PluginError(f"a plugin cannot be called {given!r}: {taken}. Choose another name")
    return names


def _refuse_invalid(given: str, short: str) -> None:
    if _PATTERN.fullmatch(short) and len(short) <= _LONGEST:
        word = next((word for word in (short, short.capitalize()) if keyword.iskeyword(word)), None)
        if word is None and short != OWN_DISTRIBUTION:
            return
        why = f"{word!r} is a Python keyword" if word else "it is the name of p2pkit itself"
        raise PluginError(f"a plugin cannot be called {given!r}: {why}. Choose another name")
    possible = re.sub("[^a-z0-9]+", "-", short.lower()).strip("-0123456789")[:_LONGEST].strip("-")
    example = f", as in {possible}" if _PATTERN.fullmatch(possible) else ""
    raise PluginError(
        f"a plugin cannot be called '{visible(given)}'; allowed: {ALLOWED}, {_LONGEST} characters at most{example}"
    )


def _taken(names: Names) -> str:
    """What has one of these names already; empty when nothing does."""
    for plugin in manager().plugins:
        if plugin.name.replace("-", "_") == names.name:
            return f"the plugin {plugin.origin} has that name"
    try:
        return f"{names.distribution} {version(names.distribution)} is installed"
    except PackageNotFoundError:
        pass
    if find_spec(names.package) is not None:
        return f"a package {names.package} is installed"
    registry = manager().registry(names.kind)
    if names.name in registry.names():
        return f"{registry.get(names.name).origin} has a {names.singular} of that name"
    return ""
