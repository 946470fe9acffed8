"""The names that plugins offer, one registry a kind, and the look-up that helps with a misspelt one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from p2pkit.components.own_plugins import provided_elsewhere
from p2pkit.errors import PluginError, UnknownComponent, did_you_mean

Factory = Callable[..., Any]
FILLING = RLock()
"""Held while plugins offer components, so that no other thread takes what there is so far for all."""


@dataclass(frozen=True)
class Registered:
    """A component's name, what makes it, and the distribution that offers it."""

    name: str
    factory: Factory
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """Distribution and version, as messages show them."""
        return f"{self.distribution} {self.version}"


@dataclass
class Registry:
    """The components of one kind, by name.

    A name that two plugins offer belongs to neither: asking for it is an error that names both, everything else works.
    Names that a plugin finds only by importing something heavy are offered once they may matter (:meth:`offer_later`).
    """

    kind: str
    broken: Callable[[], Iterable[str]] = tuple
    """What is wrong with plugins, which may have offered less for it."""
    _offers: dict[str, list[Registered]] = field(default_factory=dict)
    _later: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    """Distributions, each with what offers its other components."""

    def add(self, name: str, factory: Factory, distribution: str, version: str) -> None:
        """Take in one component; a name offered twice becomes a conflict.

        Raises:
            TypeError: no recipe could write the name.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"{self.kind}: found {name!r} as a name, expected a text that recipes can write")
        self._offers.setdefault(name, []).append(Registered(name, factory, distribution, version))

    def offer_later(self, distribution: str, offer: Callable[[], object]) -> None:
        """Call ``offer``, which adds more of ``distribution``, when a name is asked for that it has not offered yet."""
        self._later.append((distribution, offer))

    @property
    def failures(self) -> list[str]:
        """Why some plugin could not offer its components, if this one has any."""
        self._offer_all()
        return list(self.broken())

    def __iter__(self) -> Iterator[Registered]:
        return (self._offers[name][0] for name in self.names())

    def offers(self) -> Iterator[Registered]:
        """All that was offered, in its order, also under names that belong to neither of two."""
        self._offer_all()
        return (offer for offers in self._offers.values() for offer in offers)

    def names(self) -> list[str]:
        """The names that can be used, sorted."""
        self._offer_all()
        return sorted(name for name, offers in self._offers.items() if len(offers) == 1)

    def conflicts(self) -> list[str]:
        """One message for every name that more than one plugin offers."""
        self._offer_all()
        return [self._conflict(name) for name, offers in sorted(self._offers.items()) if len(offers) > 1]

    def get(self, name: str) -> Registered:
        """The component called ``name``.

        Raises:
            PluginError: two plugins offer the name.
            UnknownComponent: nobody does; the message has the nearest name and all that there are.
        """
        with FILLING:
            offered_by = {offer.distribution for offer in self._offers.get(name, [])}
            if any(distribution not in offered_by for distribution, _ in self._later):
                self._offer_all()  # the name may be among them; where another plugin has it, that is a conflict
        offers = self._offers.get(name, [])
        if len(offers) > 1:
            raise PluginError(self._conflict(name))
        if not offers:
            raise UnknownComponent(self._unknown(name))
        return offers[0]

    def _offer_all(self) -> None:
        with FILLING:
            while self._later:
                before, rest = {name: [*offers] for name, offers in self._offers.items()}, self._later.pop(0)
                try:
                    rest[1]()
                except BaseException:  # Ctrl-C, in a notebook that goes on: it is offered when it is asked for again
                    self._offers = before
                    self._later.insert(0, rest)
                    raise

    def _conflict(self, name: str) -> str:
        offers = " and ".join(offer.origin for offer in self._offers[name])
        return f"{self.kind}: the name {name!r} is offered by {offers}; uninstall one of them or use --no-plugin"

    def _unknown(self, name: str) -> str:
        names = self.names()
        elsewhere = provided_elsewhere(name)
        remedy = f"; {elsewhere}" if elsewhere else did_you_mean(name, names)
        lines = [f"{self.kind}: nothing is called {name!r}{remedy}"]
        lines.append(f"  there are: {', '.join(names) or 'none'}")
        lines += [f"  a plugin that might have it failed: {failure}" for failure in self.failures]
        return "\n".join(lines)
