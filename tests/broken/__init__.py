"""Components that break one clause of their contract each, to show that the contract tests find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2pkit.testing.checks import ContractCheck


@dataclass(frozen=True)
class Broken:
    """A component, the check that it fails, and a part of the message to expect."""

    kind: str
    check: ContractCheck
    factory: Callable[..., Any]
    found: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
