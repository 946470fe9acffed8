"""What this plugin registers passes the checks of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pkit.testing import check_component
from tests.plugins_in_tree import registered_by
from tests.web import Site


@pytest.mark.parametrize("component", registered_by("p2pkit-webdataset"), ids=str)
def test_components_pass_their_checks(component: tuple[str, str], shards: Path, site: Site, tmp_path: Path) -> None:
    parameters = {"webdataset": {"root": shards}, "webdataset_http": {"url": site.url, "cache": tmp_path / "cache"}}
    check_component(*component, **parameters[component[1]])
