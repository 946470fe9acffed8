"""Contract tests: what any component of a kind promises, checked in one line of its author's own tests.

    from p2pkit.testing import check_component

    def test_stripes() -> None:
        check_component("generators", "stripes", depth=2)

A promise that is not kept is an AssertionError that says what was promised, what was found and where to read on.
Nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from p2pkit.contracts import KINDS
from p2pkit.plugins import manager
from p2pkit.registry import Factory, Registered
from p2pkit.testing import (
    datasets,
    discriminators,
    encodings,
    exporters,
    generators,
    losses,
    methods,
    metrics,
    signature,
)
from p2pkit.testing.checks import Promise, Subject, check_promises
from p2pkit.testing.generators import exported_as

__all__ = ["check_component", "check_export", "components_of"]

PROMISES: Mapping[str, Sequence[Promise]] = {
    "generators": generators.PROMISES,
    "discriminators": discriminators.PROMISES,
    "losses": losses.PROMISES,
    "datasets": datasets.PROMISES,
    "methods": methods.PROMISES,
    "metrics": metrics.PROMISES,
    "exporters": exporters.PROMISES,
    "encodings": encodings.PROMISES,
}
"""What a component of each kind promises, beside what all of them do; the first that is broken is told."""


def check_component(kind: str, component: str | Factory, /, **parameters: Any) -> None:
    """Check that a component of ``kind`` keeps every promise of its kind.

    Args:
        kind: ``"generators"``, ``"losses"`` ...
        component: the name under which it is registered, or a factory that need not be registered.
        parameters: values of its own parameters, best such that it is small. What the assembly supplies
            (``source_channels``, ``generator`` ...) is supplied in several ways; given here, in this way alone.

    Raises:
        AssertionError: a promise is broken.
        UnknownComponent: there is no such kind, or nothing of it has that name.
    """
    check_promises(_subject(kind, component, parameters), (*signature.PROMISES, *PROMISES[kind]))


def check_export(generator: str, form: str = "onnx", /, **parameters: Any) -> None:
    """Check that a registered generator, exported as ``form``, gives what it gives in p2pkit, of any size.

    Raises:
        AssertionError: it cannot be exported, or what was written does something else.
        UnknownComponent: there is no such generator.
    """
    check_promises(_subject("generators", generator, parameters), [exported_as(form)])


def components_of(distribution: str) -> list[tuple[str, str]]:
    """Kind and name of every component that an installed ``distribution`` registers: what its tests have to check."""
    found = (each for kind in KINDS for each in _of_kind(kind, distribution))
    return sorted(found)


def _of_kind(kind: str, distribution: str) -> list[tuple[str, str]]:
    return [(kind, each.name) for each in manager().registry(kind) if each.distribution == distribution]


def _subject(kind: str, component: str | Factory, parameters: Mapping[str, Any]) -> Subject:
    registry = manager().registry(kind)
    if isinstance(component, str):
        return Subject(registry.get(component), kind, parameters)
    name = getattr(component, "__name__", type(component).__name__)
    return Subject(Registered(name, component, "no distribution", "(not registered)"), kind, parameters)
