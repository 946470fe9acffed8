"""A server of a small model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web_site import Site, serving

from tests.conftest import model

__all__ = ["model"]


@pytest.fixture
def site(model: Path) -> Iterator[Site]:
    """A server of a small U-Net whose dropout shows."""
    with serving(model) as found:
        yield found
