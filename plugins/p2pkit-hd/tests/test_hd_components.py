"""The components of this plugin fulfil the contracts of their kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pkit.testing import check_component
from tests.plugins_in_tree import registered_by

SMALL: dict[str, dict[str, Any]] = {
    "hd_global": {"width": 2, "halvings": 2, "blocks": 1},
    "hd_local": {"width": 2, "halvings": 1, "blocks": 1, "enhancers": 2, "enhancer_blocks": 1},
    "hd_multiscale": {"scales": 2, "layers": 2, "width": 4},
    "class_and_boundary": {"classes": 5},
    "pix2pix_hd": {},
}


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("component", registered_by("p2pkit-hd"), ids=str)
def test_components_fulfil_their_contracts(component: tuple[str, str], streets: Path) -> None:
    check_component(*component, **{**SMALL, "cityscapes": {"root": streets}}[component[1]])
