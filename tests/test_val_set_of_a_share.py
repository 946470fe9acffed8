"""A share of the train set as val set: which samples these are, and that none moves when others come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import p2pkit as library
from p2pkit.data.samples import Samples
from tests.conftest import Call, train
from tests.test_finding_pairs import folder, loaded, numbers, settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "found"


def many(root: Path, count: int, start: int = 0) -> Path:
    return folder(root, {f"{side}/{index}.png": index % 100 + 100 * (side == "target")
                         for index in range(start, start + count) for side in ("source", "target")})  # fmt: skip


def names(samples: Samples) -> set[str]:
    return {samples[index].key for index in range(len(samples))}


def test_a_share_of_the_train_set_becomes_the_val_set(root: Path, recipe: Path) -> None:
    whole = names(loaded(recipe, many(root, 60), split=0).train)
    data = loaded(recipe, root, split=0.2)
    train_set, val = names(data.train), names(data.val)
    assert train_set | val == whole and not train_set & val and 5 <= len(val) <= 20
    assert data.validation is data.val
    assert any(f"data.split = 0.2: {len(val)} of 60 training pairs" in notice for notice in data.notices)
    assert val <= names(loaded(recipe, root, split=0.4).val)
    many(root, 40, start=60)
    more = loaded(recipe, root, split=0.2)
    assert val == {name for name in names(more.val) if name in whole}
    for pair in numbers(data.val):
        assert pair[1] == pair[0] + 100


def test_where_nothing_is_measured_a_tenth_of_the_pairs_is(root: Path, recipe: Path, tmp_path: Path) -> None:
    data = loaded(recipe, many(root, 100))
    assert 2 <= len(data.val) <= 25 and len(data.train) + len(data.val) == 100 and data.validation is data.val
    (notice,) = [notice for notice in data.notices if "val set" in notice]
    assert f"so {len(data.val)} of 100 training pairs" in notice and "data.split = 0 trains on all" in notice
    assert names(data.val) == names(loaded(recipe, root, split=0.1).val)
    without = loaded(recipe, root, split=0)
    assert len(without.train) == 100 and not len(without.val)
    with_test = folder(tmp_path / "tested", {f"{split}/{side}/{index}.png": index for split in ("train", "test")
                                             for index in range(30) for side in ("source", "target")})  # fmt: skip
    assert len(loaded(recipe, with_test).train) == 30 and not len(loaded(recipe, with_test).val)


@pytest.mark.parametrize("count", [20, 21, 22, 23, 24])
def test_no_default_val_set_is_empty(count: int, root: Path, recipe: Path) -> None:
    data = loaded(recipe, many(root, count, start=count))
    assert 1 <= len(data.val) < count


def test_of_few_pairs_none_is_taken_and_that_is_said(root: Path, recipe: Path, p2pkit: Call) -> None:
    many(root, 19)
    settings = ("--set", f'data={{name = "paired_folders", root = "{root}"}}')
    checked = p2pkit("check", recipe, *settings)
    said = " ".join(checked.out.split())
    assert checked.code == 0 and "neither a val nor a test set; set data.split, such as 0.2" in said
    mended = " ".join(p2pkit("check", recipe, *settings, "--set", "data.split=0.2").out.split())
    assert "no validation" not in mended and "are the val set" in mended


def test_a_group_stays_together(root: Path, recipe: Path) -> None:
    folder(root, {f"{side}/p{patient}_{index}.png": 10 * patient + index + 100 * (side == "target")
                  for patient in range(10) for index in range(4) for side in ("source", "target")})  # fmt: skip
    data = loaded(recipe, root, split=0.3, source_pattern="{group}_{stem}", target_pattern="{group}_{stem}")
    patients = [{pair[0] // 10 for pair in numbers(samples)} for samples in (data.train, data.val)]
    assert patients[0] | patients[1] == set(range(10)) and not patients[0] & patients[1] and patients[1]
    rows = [f"source/p{patient}_{index}.png,target/p{patient}_{index}.png,{patient}"
            for patient in range(10) for index in range(4)]  # fmt: skip
    (root / "pairs.csv").write_text("\n".join(["source,target,group", *rows]))
    data = loaded(recipe, root, split=0.3, list="pairs.csv")
    patients = [{pair[0] // 10 for pair in numbers(samples)} for samples in (data.train, data.val)]
    assert patients[0] | patients[1] == set(range(10)) and not patients[0] & patients[1] and patients[1]


def test_the_val_set_does_not_depend_on_folders_of_splits_and_endings(root: Path, recipe: Path, tmp_path: Path) -> None:
    """What is moved from root/source to root/train/source stays on its side."""
    many(root, 40)
    flat = names(loaded(recipe, root, split=0.3).val)
    (root / "train").mkdir()
    for side in ("source", "target"):
        (root / side).rename(root / "train" / side)
    for file in (root / "train" / "source").iterdir():
        file.rename(file.with_suffix(".PNG"))
    moved = names(loaded(recipe, root, split=0.3).val)
    assert {name.removeprefix("train/").replace(".PNG", ".png") for name in moved} == flat


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"split": 1.5}, "data.split: found 1.5, expected a float from 0 to below 1"),
        ({"split": -0.1}, "data.split: found -0.1, expected a float from 0 to below 1"),
        ({"split": "val"}, "data.split: found 'val', expected a float from 0 to below 1"),
        ({"split": 1e-9}, "data.split = 1e-09: 0 of 20 training pairs (0 of 20 names or groups) would be the val set"),
        ({"split": 0.999999999}, "20 of 20 training pairs (20 of 20 names or groups) would be the val set"),
        ({"name": "unpaired_folders", "split": 0.2}, "is unpaired, and no metrics are taken of that"),
        ({"name": "procedural_facades", "size": 32, "split": 0.2}, "has a val set already, of 100 samples"),
    ],
)
def test_shares_that_are_refused(table: dict[str, Any], reason: str, root: Path, recipe: Path, p2pkit: Call) -> None:
    many(root, 20)
    table = (
        {"name": "paired_folders", **table}
        if "size" in table
        else {"name": "paired_folders", "root": str(root), **table}
    )
    text = ", ".join(f"{key} = {value!r}" for key, value in table.items())
    outcome = p2pkit("check", recipe, "--set", f"data={{{text}}}")
    assert outcome.code == 2 and reason in outcome.err and len(outcome.said) == 1, outcome.err


@pytest.mark.parametrize("table", ["side_by_side", "procedural_facades"])
def test_any_data_set_is_divided(table: str, pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    data = f'{{name = "side_by_side", root = "{pairs}", split = 0.5}}'
    if table == "procedural_facades":
        data = '{name = "procedural_facades", size = 32, pairs = 12, val_pairs = 0, test_pairs = 0, split = 0.5}'
    outcome = p2pkit("run", recipe, "--set", f"data={data}", "--set", "loader.batch_size=1", "--out",
                     tmp_path / "run")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "data.split = 0.5: " in outcome.err and "validation/mae" in outcome.out
    assert p2pkit("evaluate", tmp_path / "run", "--split", "val").code == 0


def test_another_share_is_other_data_to_resume_on(root: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    many(root, 30)
    run = train(p2pkit, recipe, tmp_path / "run", settings(root, split=0.2)[1])
    assert p2pkit("run", "--resume", run).code == 0
    frozen = run / "recipe.toml"
    frozen.write_text(frozen.read_text().replace("split = 0.2", "split = 0.3"))
    outcome = p2pkit("run", "--resume", run)
    assert outcome.code == 2 and "data.split: 0.2 -> 0.3" in outcome.err
    outcome = p2pkit("run", "--resume", run, "--accept-changed-recipe")
    assert outcome.code == 2 and "fingerprint" in outcome.err
    assert loaded(recipe, root, split=0.2).fingerprint != loaded(recipe, root).fingerprint


def test_a_data_set_of_somebody_who_gives_tuples_is_divided(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    source = tmp_path / "p2pkit-tuples"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[project]\nname = "p2pkit-tuples"\nversion = "1"\n[project.entry-points.p2pkit]\ntuples = "tuples_of_images"\n'
    )
    (source / "tuples_of_images.py").write_text(
        "import numpy, p2pkit\n"
        "class Tuples:\n"
        "    def __len__(self):\n        return 30\n"
        "    def __getitem__(self, index):\n"
        "        return numpy.full((24, 24, 3), index, 'uint8'), numpy.full((24, 24, 3), 99, 'uint8')\n"
        "@p2pkit.hookimpl\ndef register_datasets(register):\n    register('tuples', Tuples)\n"
    )
    outcome = p2pkit("--plugins-dir", tmp_path, "check", recipe, "--set", 'data={name = "tuples", split = 0.3}')
    assert outcome.code == 0 and "0 test pairs" in outcome.out, outcome.err
    assert "of 30 training pairs" in " ".join(outcome.out.split())
    data = library.load_data(recipe, {"data": {"name": "tuples", "split": 0.3}})
    seen = [
        {int(samples[index].source[0, 0, 0]) for index in range(len(samples))} for samples in (data.train, data.val)
    ]
    assert seen[0] | seen[1] == set(range(30)) and not seen[0] & seen[1] and seen[1]
