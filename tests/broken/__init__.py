"""Components that break one promise each, so that the contract tests can be seen to find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2pkit.testing.checks import Promise


@dataclass(frozen=True)
class Broken:
    """A component that breaks a promise, and a part of what should be said of it."""

    kind: str
    promise: Promise
    factory: Callable[..., Any]
    found: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
