"""The checks of a contract: how they are written, run and reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from accelerate.utils import set_seed
from torch import nn

from p2pkit.components.catalogue import create_registered, place
from p2pkit.components.kinds import SUPPLIED
from p2pkit.components.registry import Registered
from p2pkit.contracts import Component
from p2pkit.utils.seeds import random_states_kept

READ = {
    "generators": "Generator", "discriminators": "Discriminator", "losses": "Loss", "datasets": "PairedDataset",
    "methods": "Method", "metrics": "Metric", "encodings": "Encoding", "augmentations": "Augmentation",
    "exporters": "export.contract.Exporter", "image_formats": "images.formats.ImageFormat",
    "optimizers": "run_contracts.OptimizerFactory", "schedules": "run_contracts.Schedule",
    "callbacks": "run_contracts.Callback",
}  # fmt: skip
"""Where each kind is described: a class in p2pkit.contracts, or in another module of p2pkit."""


@dataclass(frozen=True)
class Subject:
    """The component that is being tested, and the parameters to make it with."""

    registered: Registered
    kind: str
    parameters: Mapping[str, Any]

    def make(self, seed: int = 0, **supplied: Any) -> Component:
        """Make it from ``seed``, with what the assembly would have ``supplied`` unless the parameters have it."""
        set_seed(seed)
        wanted = {name: value for name, value in supplied.items() if name in SUPPLIED[self.kind]}
        given = {**wanted, **self.parameters}
        # each gets networks of its own, as every run does
        return create_registered(self.registered, self.kind, {name: _own(value) for name, value in given.items()})

    def supplied(self, name: str, otherwise: Any) -> Any:
        """What is supplied as ``name``: the value among the parameters, if there is one."""
        return self.parameters.get(name, otherwise)


def _own(value: Any) -> Any:
    return deepcopy(value) if isinstance(value, nn.Module) else value


class ContractViolation(Exception):  # noqa: N818 - it names what happened
    """What was found instead of what the contract demands."""


def require(condition: object, found: str) -> None:
    """Raise ContractViolation, with what was ``found``, unless ``condition`` holds."""
    if not condition:
        raise ContractViolation(found)


Run = Callable[[Subject], None]


@dataclass(frozen=True)
class ContractCheck:
    """A clause of a contract, in words, and a function that raises any exception when a component breaks it."""

    text: str
    run: Run


def contract(text: str) -> Callable[[Run], ContractCheck]:
    """Make the check of a clause from a function."""
    return lambda run: ContractCheck(text, run)


def run_checks(subject: Subject, checks: Sequence[ContractCheck]) -> None:
    """Raise AssertionError for the first of ``checks`` that fails. The CPU's random states stay as they were."""
    __tracebackhide__ = True  # pytest then shows the test that called
    with random_states_kept():
        for check in checks:
            try:
                check.run(subject)
            except ContractViolation as violation:
                raise AssertionError(_report(subject, check, str(violation))) from violation.__cause__
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
                raise AssertionError(_report(subject, check, found)) from error


def _report(subject: Subject, failed: ContractCheck, found: str) -> str:
    registered = subject.registered
    file, line = place(registered)
    read = READ[subject.kind] if "." in READ[subject.kind] else f"contracts.{READ[subject.kind]}"
    given = ", ".join(f"{name} = {_short(value)}" for name, value in subject.parameters.items())
    return (
        f"{subject.kind}: {registered.name!r} of {registered.origin} breaks its contract"
        f"\n  expected: {failed.text}"
        f"\n  found: {found}"
        f"\n  made with: {given or 'its defaults'}"
        f"\n  defined in: {file or 'an unknown place'}{f':{line}' if file else ''}"
        f"\n  read: p2pkit.{read}"
    )


def _short(value: Any) -> str:
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)
