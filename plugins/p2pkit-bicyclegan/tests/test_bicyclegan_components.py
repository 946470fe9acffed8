"""What this plugin registers keeps the promises of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from p2pkit.testing import check_component
from p2pkit_bicyclegan.generator import LatentUNet
from tests.plugins_in_tree import registered_by

GENERATOR = {"depth": 3, "width": 8}


@pytest.mark.parametrize("component", registered_by("p2pkit-bicyclegan"), ids=str)
@pytest.mark.usefixtures("plugins")
def test_components_keep_their_promises(component: tuple[str, str]) -> None:
    parameters: dict[str, dict[str, Any]] = {
        "bicyclegan_unet": GENERATOR,
        # that with which methods are tried takes no latent
        "bicyclegan": {"generator": LatentUNet(3, 3, **GENERATOR), "encoder_width": 8, "encoder_blocks": 2},
    }
    check_component(*component, **parameters[component[1]])
