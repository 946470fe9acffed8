"""Which set metrics are taken on, and folders whose files do not correspond."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Call, lines, picture, save, train


def test_the_best_is_chosen_on_the_set_that_the_recipe_says(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    drawn = 'data={name = "procedural_facades", size = 32, pairs = 4, val_pairs = 2, test_pairs = 3}'
    metrics = {}
    for split in ("val", "test"):
        run = train(p2pkit, recipe, tmp_path / split, drawn, "validation.every=2", f"validation.split={split}")
        metrics[split] = [line["validation/mae"] for line in lines(run) if line["split"] == "validation"]
        assert len(metrics[split]) == 2
    assert metrics["val"] != metrics["test"]
    outcome = p2pkit("check", recipe, "--set", drawn.replace("test_pairs = 3", "test_pairs = 0"), "--set",
                     "validation.split=test")  # fmt: skip
    assert outcome.code == 2 and 'validation.split is "test", but dataset' in outcome.err


def test_unpaired_folders_are_checked_and_shown(pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    root = tmp_path / "unpaired"
    for side, count in (("a", 3), ("b", 5)):
        for index in range(count):
            file = root / "train" / side / f"{side}{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(20 - (side == "b"), 20, index)).save(file)
    chosen = ("--set", f'data={{name = "unpaired_folders", root = "{root}", source = "a", target = "b"}}')
    checked = p2pkit("check", recipe, *chosen)
    assert checked.code == 0, checked.err
    assert "3 training sources and 5 targets" in checked.out and "no validation" in checked.out
    assert p2pkit("data", "check", recipe, *chosen).out == "data unpaired_folders: all 8 pairs can be used\n"
    spoilt = root / "train" / "b" / "b2.png"
    spoilt.write_bytes(spoilt.read_bytes()[:90])
    Image.fromarray(picture(20, 20, 0)[:, :, 0]).save(root / "train" / "b" / "b3.png")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *chosen)
    assert outcome.code == 2 and "2 of 8 pairs cannot be used" in outcome.err
    assert "train/b/b3.png: its target has 1 channel, that of" in outcome.err
    settings = ("--set", "loader.bad_data=skip", "--set", "target.percentiles=[0, 100]")
    skipped = p2pkit("run", recipe, "--out", tmp_path / "run", *chosen, *settings)
    assert skipped.code == 0, skipped.err
    seen = {line["message"].partition(":")[0] for line in map(json.loads, (tmp_path / "run/bad_data.jsonl").open())}
    assert all("/b2.png" in message or message == "train/b/b3.png" for message in seen)


@pytest.mark.parametrize("settings", ["{crop_size = 16}", "{load_size = 18, keep_aspect = true, crop_size = 16}"])
def test_unpaired_images_of_several_sizes_are_cropped(
    settings: str, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    recipe.write_text(recipe.read_text().replace("load_size = 20\n", ""))
    root = tmp_path / "unpaired"
    for side, sizes in (("a", [(20, 24), (24, 20)]), ("b", [(32, 48), (18, 18), (16, 40)])):
        for index, size in enumerate(sizes):
            save(root / "train" / side / f"{index}.png", picture(*size, index))
    data = f'data={{name = "unpaired_folders", root = "{root}", source = "a", target = "b"}}'
    chosen = data, f"transform={settings}", "loader.batch_size=2"
    outcome = p2pkit("check", recipe, *(part for each in chosen for part in ("--set", each)))
    assert outcome.code == 0, outcome.err
    assert (train(p2pkit, recipe, tmp_path / "run", *chosen) / "model.safetensors").exists()
