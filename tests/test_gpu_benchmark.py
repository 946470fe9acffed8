"""benchmarks/gpu.py from end to end, with tiny networks on a CPU: all that it measures is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY


def test_all_of_it_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    words = [sys.executable, REPOSITORY / "benchmarks/gpu.py", "--device", "cpu", "--smoke", "--json", file]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert not any("failed" in part or "left_out" in part for part in found.values()), done.stdout
    rows = found["steps, batch 1"]["rows"]
    assert rows.keys() == {"float32", "float32, deterministic"}
    for row in rows.values():
        assert row["floor"] == max(row["arithmetic"], row["memory"]) > 0
        assert row["share"] == row["floor"] / row["seconds"]
    assert found["resume"]["same_model_bytes"] and set(found["resume"]["largest_difference"].values()) == {0.0}
    assert found["run"]["whole_run_seconds"] == 80_000 * found["run"]["seconds_per_step"] > 0
    assert "| float32 |" in done.stdout and "`deterministic` takes" in done.stdout
