"""FIFOs in place of files: opening one to read waits for ever."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hostile.attacks import Attack


def _recipe(folder: Path) -> list[object]:
    os.mkfifo(folder / "a.toml")
    return ["check", folder / "a.toml"]


ATTACKS = [Attack("a FIFO in place of a file", "recipe", _recipe, ["FIFO"], seconds=20)]
