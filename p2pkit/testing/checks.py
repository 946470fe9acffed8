"""A promise of a component, and how one that is broken is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import nn

from p2pkit.catalogue import create_registered, place
from p2pkit.contracts import SUPPLIED, Component
from p2pkit.registry import Registered

READ = {
    "generators": "Generator", "discriminators": "Discriminator", "losses": "Loss", "datasets": "PairedDataset",
    "methods": "Method", "metrics": "Metric", "exporters": "Exporter", "encodings": "Encoding",
}  # fmt: skip
"""Where each kind is described, in p2pkit.contracts."""


@dataclass(frozen=True)
class Subject:
    """The component that is being tested, and the parameters to make it with."""

    registered: Registered
    kind: str
    parameters: Mapping[str, Any]

    def make(self, seed: int = 0, **supplied: Any) -> Component:
        """Make it from ``seed``, with what the assembly would have ``supplied`` unless the parameters say it."""
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


class BrokenPromise(Exception):  # noqa: N818 - it says what happened
    """What was found instead of what was promised."""


def require(condition: object, found: str) -> None:
    """Raise BrokenPromise, telling what was ``found``, unless ``condition`` holds."""
    if not condition:
        raise BrokenPromise(found)


Check = Callable[[Subject], None]


@dataclass(frozen=True)
class Promise:
    """What is promised, in words, and a function that raises whatever it likes when that is not kept."""

    text: str
    check: Check


def promise(text: str) -> Callable[[Check], Promise]:
    """Make a promise of a function that checks it."""
    return lambda check: Promise(text, check)


def check_promises(subject: Subject, promises: Sequence[Promise]) -> None:
    """Raise AssertionError for the first of ``promises`` that is broken. The CPU's random states stay as they were."""
    __tracebackhide__ = True  # pytest then shows the test that called
    with _random_states_kept():
        for each in promises:
            try:
                each.check(subject)
            except BrokenPromise as broken:
                raise AssertionError(_told(subject, each, str(broken))) from broken.__cause__
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
                raise AssertionError(_told(subject, each, found)) from error


def _told(subject: Subject, broken: Promise, found: str) -> str:
    registered = subject.registered
    file, line = place(registered)
    given = ", ".join(f"{name} = {_short(value)}" for name, value in subject.parameters.items())
    return (
        f"{subject.kind}: {registered.name!r} of {registered.origin} does not keep a promise"
        f"\n  promised: {broken.text}"
        f"\n  found: {found}"
        f"\n  made with: {given or 'its defaults'}"
        f"\n  defined in: {file or 'a place that Python cannot tell'}{f':{line}' if file else ''}"
        f"\n  read: p2pkit.contracts.{READ[subject.kind]}"
    )


def _short(value: Any) -> str:
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
