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
    figures = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert figures["held_out/mae"] < 0.75 * figures["class_mean_colour/mae"]
    assert f"held_out/mae: {figures['held_out/mae']:.4f}" in outcome.out
