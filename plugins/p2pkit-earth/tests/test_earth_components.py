"""What this plugin registers keeps the promises of its kind."""

from __future__ import annotations

import pytest

from p2pkit.testing import check_component
from tests.plugins_in_tree import registered_by


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("component", registered_by("p2pkit-earth"), ids=str)
def test_components_keep_their_promises(component: tuple[str, str]) -> None:
    check_component(*component, tile=64)
