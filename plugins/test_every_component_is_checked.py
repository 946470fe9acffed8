"""No plugin of this repository has a component that its tests leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plugins_in_tree import in_tree, registered_by


@pytest.mark.parametrize(("folder", "project"), in_tree(), ids=lambda value: getattr(value, "name", ""))
def test_a_plugin_checks_all_that_it_registers(folder: Path, project: dict[str, Any]) -> None:
    """Its tests are parametrised with its registry, so that a new component is checked without being added."""
    name = project["name"]
    if not registered_by(name):
        pytest.skip(f"{name} registers no components")
    tests = [file.read_text() for file in (folder / "tests").glob("test_*.py")]
    checked = [text for text in tests if f'registered_by("{name}")' in text and "check_component(" in text]
    assert checked, f"add a test of registered_by({name!r}) with check_component, as p2pkit-webdataset has one"
