"""The components of this plugin fulfil the contracts of their kinds."""

from __future__ import annotations

import pytest

from p2pkit.testing import check_component
from tests.plugins_in_tree import registered_by


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("component", registered_by("p2pkit-earth"), ids=str)
def test_components_fulfil_their_contracts(component: tuple[str, str]) -> None:
    check_component(*component, tile=64)
