"""Contract tests: any component against the contract of its kind, in one line of its author's own tests.

    from p2pkit.testing import check_component

    def test_stripes() -> None:
        check_component("generators", "stripes", depth=2)

A broken contract is an AssertionError with what was expected, what was found and where to read on.
Nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from p2pkit.components.host import manager
from p2pkit.components.kinds import KINDS
from p2pkit.components.registry import Factory, Registered
from p2pkit.testing import (
    augmentations,
    datasets,
    discriminators,
    encodings,
    exporters,
    generators,
    image_formats,
    losses,
    methods,
    metrics,
    optimizers,
    runs,
    signature,
)
from p2pkit.testing.checks import ContractCheck, Subject, run_checks
from p2pkit.testing.generators import exported_as

__all__ = ["check_component", "check_export", "components_of"]

CHECKS: Mapping[str, Sequence[ContractCheck]] = {
    "generators": generators.CHECKS,
    "discriminators": discriminators.CHECKS,
    "losses": losses.CHECKS,
    "datasets": datasets.CHECKS,
    "methods": methods.CHECKS,
    "metrics": metrics.CHECKS,
    "exporters": exporters.CHECKS,
    "encodings": encodings.CHECKS,
    "image_formats": image_formats.CHECKS,
    "augmentations": augmentations.CHECKS,
    "optimizers": optimizers.CHECKS,
    "schedules": runs.SCHEDULE_CHECKS,
    "callbacks": runs.CALLBACK_CHECKS,
}
"""The checks of each kind, beside those of all kinds; the first that fails is reported."""


def check_component(kind: str, component: str | Factory, /, **parameters: Any) -> None:
    """Check that a component of ``kind`` fulfils the contract of its kind.

    Args:
        kind: ``"generators"``, ``"losses"`` ...
        component: the name under which it is registered, or a factory that need not be registered.
        parameters: values of its own parameters, best such that it is small. What the assembly supplies
            (``source_channels``, ``generator`` ...) is supplied in several ways; given here, in this way alone.

    Raises:
        AssertionError: it breaks the contract.
        UnknownComponent: there is no such kind, or nothing of it has that name.
    """
    subject = _subject(kind, component, parameters)
    run_checks(subject, (*signature.CHECKS, *CHECKS[subject.kind]))


def check_export(generator: str, form: str = "onnx", /, **parameters: Any) -> None:
    """Check that a registered generator, exported as ``form``, gives what it gives in p2pkit, of any size.

    Raises:
        AssertionError: it cannot be exported, or what was written does something else.
        UnknownComponent: there is no such generator.
    """
    run_checks(_subject("generators", generator, parameters), [exported_as(form)])


def components_of(distribution: str) -> list[tuple[str, str]]:
    """Kind and name of every component that an installed ``distribution`` registers: what its tests have to check."""
    found = (each for kind in KINDS for each in _of_kind(kind, distribution))
    return sorted(found)


def _of_kind(kind: str, distribution: str) -> list[tuple[str, str]]:
    return [(kind, each.name) for each in manager().registry(kind) if each.distribution == distribution]


def _subject(kind: str, component: str | Factory, parameters: Mapping[str, Any]) -> Subject:
    registry = manager().registry(kind)
    if isinstance(component, str):
        return Subject(registry.get(component), registry.kind, parameters)
    name = getattr(component, "__name__", type(component).__name__)
    return Subject(Registered(name, component, "no distribution", "(not registered)"), registry.kind, parameters)
