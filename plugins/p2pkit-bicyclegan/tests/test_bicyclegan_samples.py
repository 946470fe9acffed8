"""BicycleGAN on several sources, masks, and targets that are larger than their sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Call, picture, save, train

FOLDERS = 'data={{name = "paired_folders", root = "{root}", source = ["photo", "labels"], mask = "weights"}}'
ENCODED = 'source.labels.encoding={name = "one_hot", classes = 4}'


def scenes(root: Path, scale: int = 1) -> Path:
    """Photos and label maps, and targets of ``scale`` times their size of which half counts."""
    mask = np.full((24 * scale, 24 * scale), 255, np.uint8)
    mask[:, : 12 * scale] = 0
    for split, seeds in (("train", range(4)), ("test", (4, 5))):
        for seed in seeds:
            name = f"{seed}.png"
            save(root / split / "photo" / name, picture(24, 24, seed))
            save(root / split / "labels" / name, picture(24, 24, 9 + seed, 1) // 64)
            save(root / split / "target" / name, 255 - picture(24 * scale, 24 * scale, seed))
            save(root / split / "weights" / name, mask)
    return root


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.mark.parametrize("encoding", [(), (ENCODED,)], ids=["plain", "encoded"])
def test_two_sources_and_a_mask(encoding: tuple[str, ...], program: Call, bicycle: Path, tmp_path: Path) -> None:
    settings = (FOLDERS.format(root=scenes(tmp_path / "scenes")), *encoding)
    assert program("check", bicycle, *words(*settings)).code == 0
    run = train(program, bicycle, tmp_path / "run", *settings)
    half = train(program, bicycle, tmp_path / "half", *settings, "train.max_steps=2")
    assert program("run", "--resume", half, "--set", "train.max_steps=4").code == 0
    assert (half / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    named = [word for name in ("photo", "labels") for word in ("--source", f"{name}={tmp_path}/scenes/test/{name}")]
    outcome = program("translate", run, *named, "--out", tmp_path / "out", "--samples", 2)
    assert outcome.code == 0, outcome.err
    first, second = (np.asarray(Image.open(tmp_path / "out" / f"4_{sample}.png")) for sample in range(2))
    assert first.shape == second.shape == (24, 24, 3) and not np.array_equal(first, second)


def test_targets_of_twice_the_size_are_refused(program: Call, bicycle: Path, tmp_path: Path) -> None:
    data = words(FOLDERS.format(root=scenes(tmp_path / "scenes", scale=2)))
    for command in (("check", bicycle), ("run", bicycle, "--out", tmp_path / "run")):
        outcome = program(*command, *data)
        assert outcome.code == 2 and "'bicyclegan_unet'" in outcome.err, outcome.err
        assert "the targets are 2 times as high and wide; choose one that takes scale" in outcome.err
        assert outcome.err.count("Error") == 1 and "Traceback" not in outcome.err
