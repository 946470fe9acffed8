"""The quickstart as a newcomer runs it, whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Call


@pytest.mark.slow
def test_the_quickstart_beats_the_class_mean_colour(p2pkit: Call, tmp_path: Path) -> None:
    outcome = p2pkit("run", REPOSITORY / "recipes" / "quickstart.toml", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics["validation/mae"] < 0.75 * metrics["class_mean_colour/mae"]
    assert "WARNING" not in outcome.out + outcome.err
    assert f"validation/mae: {metrics['validation/mae']:.4f}" in outcome.out
