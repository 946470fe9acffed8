"""The components of this plugin fulfil the contracts of their kinds."""

from __future__ import annotations

from typing import Any

import pytest

from p2pkit.testing import check_component
from p2pkit_bicyclegan.generator import LatentUNet
from tests.plugins_in_tree import registered_by

GENERATOR = {"depth": 3, "width": 8}


@pytest.mark.parametrize("component", registered_by("p2pkit-bicyclegan"), ids=str)
@pytest.mark.usefixtures("plugins")
def test_components_fulfil_their_contracts(component: tuple[str, str]) -> None:
    parameters: dict[str, dict[str, Any]] = {
        "bicyclegan_unet": GENERATOR,
        # the fixture that methods are tested with takes no latent
        "bicyclegan": {"generator": LatentUNet(3, 3, **GENERATOR), "encoder_width": 8, "encoder_blocks": 2},
    }
    check_component(*component, **parameters[component[1]])
