"""``p2pkit sweep``: tables of recipe overrides and seeds, through the command line and after a kill."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.sweeps.results import mean_over, student_t
from p2pkit.sweeps.table import read_table
from p2pkit.training.sample_grids import GAP, TOP
from tests.conftest import REPOSITORY, Call, steps_of_checkpoints
from tests.test_documentation import blocks

LOSSES = """
extends = "small.toml"

[[rows]]
name = "L1"
set.losses = [{ name = "l1", weight = 100.0 }]

[[rows]]
name = "L1+cGAN"
"""
MEASURED = """
[evaluate]
split = "test"
metrics = [{ name = "mae" }, { name = "psnr" }]
"""
BROKEN = """
[[rows]]
name = "no such data"
set.data.root = "nowhere"
"""
SEEDS = """
extends = "small.toml"
seeds = [0, 1]

[[rows]]
name = "by another name"
set.losses = [{ name = "l1", weight = 100.0 }]
"""


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_missing_is_trained_and_measured(at: Path, recipe: Path, p2pkit: Call) -> None:
    table = written(at, "losses.toml", LOSSES + BROKEN + MEASURED)
    outcome = p2pkit("sweep", table, "--json", "--device", "cpu")
    assert outcome.code == 2 and "3 runs to do, " in outcome.err
    found = outcome.json
    assert found["error"].startswith("1 run failed") and "nowhere" in found["error"]
    assert {"source", "mean_target"} <= found["others"].keys()
    *trained, failed = found["rows"]
    assert [row["name"] for row in trained] == ["L1", "L1+cGAN"]
    for row in trained:
        (run,) = row["runs"]
        by_hand = library.evaluate(run["run_dir"], metrics=["mae", "psnr"], split="test", device="cpu")
        assert run["metrics"] == pytest.approx(dict(by_hand.rows["model"]), abs=1e-6)
        assert row["metrics"] == {name: {"mean": value, "half": None} for name, value in run["metrics"].items()}
    assert trained[0]["metrics"] != trained[1]["metrics"]
    assert failed["metrics"] == {} and "nowhere" in failed["runs"][0]["error"]
    assert "| no such data |  |  | 0 of 1 |" in (at / "sweeps" / "losses" / "table.md").read_text()
    refuse_pictures_that_are_not_of(at / "sweeps" / "losses" / "pictures.png", at / "pairs" / "test", columns=4)
    a_row_that_changed_is_told(at, p2pkit, trained)
    another_table_shares_its_runs(at, p2pkit, trained[0])
    the_example_in_python_runs(at)


def a_row_that_changed_is_told(at: Path, p2pkit: Call, trained: list[Any]) -> None:
    """Its other run is that of another row, so that nothing is left to do."""
    table = written(at, "losses.toml", f"{LOSSES}set.losses = [{{ name = 'l1', weight = 100.0 }}]\n{MEASURED}")
    outcome = p2pkit("sweep", table, "--json", "--device", "cpu")
    assert outcome.code == 0 and "to do" not in outcome.err
    assert "NOTICE: 'L1', 'L1+cGAN': rows of the same recipe" in outcome.err
    assert "row 'L1+cGAN', seed 0, has changed" in outcome.err and "'no such data': rows no longer" in outcome.err
    assert "losses.0.name: 'gan' before, 'l1' now" in outcome.err
    first, second = outcome.json["rows"]
    assert first == trained[0] and second["runs"] == first["runs"]
    assert Path(trained[1]["runs"][0]["run_dir"]).is_dir()


def another_table_shares_its_runs(at: Path, p2pkit: Call, there: Any) -> None:
    outcome = p2pkit("sweep", written(at, "seeds.toml", SEEDS + MEASURED), "--json", "--device", "cpu")
    assert outcome.code == 0 and "1 run to do (1 is there)" in outcome.err
    (row,) = outcome.json["rows"]
    assert row["runs"][0]["run_dir"] == there["runs"][0]["run_dir"]
    values = [run["metrics"]["mae"] for run in row["runs"]]
    mean, half = row["metrics"]["mae"].values()
    assert mean == pytest.approx(fmean(values)) and half == pytest.approx(12.7062 * stdev(values) / 2**0.5, rel=1e-4)
    folder = at / "sweeps" / "seeds"
    assert f"| by another name | {mean:.4f} ± {half:.4f} |" in (folder / "table.md").read_text()
    with (folder / "table.csv").open() as file:
        line = next(csv.DictReader(file))
    found = [float(line[f"mae{end}"]) for end in ("", "_low", "_high")]
    assert found == pytest.approx([mean, mean - half, mean + half])

    # a record that is damaged is made anew, whatever lies in the folder where the sweep is started
    for record in Path(row["runs"][0]["run_dir"]).glob("evaluation-*.json"):
        record.write_text("{")
    (at / "queue.py").write_text("raise SystemExit('of another program')")
    # whoever resumes a run with other settings makes it another one
    (Path(row["runs"][1]["run_dir"]) / "changes.jsonl").write_text("{}\n")
    outcome = p2pkit("sweep", at / "seeds.toml", "--device", "cpu")
    assert outcome.code == 2 and "is not what the row says" in outcome.err and "1 of 2" in outcome.out


def the_example_in_python_runs(at: Path) -> None:
    (example,) = blocks("docs/sweeps.md", "python")
    written(at, "table.toml", LOSSES + MEASURED)
    found: dict[str, Any] = {}
    exec(example, found)  # of runs that are there
    assert [row.name for row in found["result"].rows] == ["L1", "L1+cGAN"]


def test_the_example_in_the_documents(at: Path, recipe: Path) -> None:
    (example,) = blocks("docs/sweeps.md", "toml")
    recipe.rename(at / "shoes.toml")
    table = read_table(written(at, "table.toml", example))
    assert [len(of_row) for of_row in table.rows.values()] == [3, 3, 3] and table.evaluate.split == "val"


def refuse_pictures_that_are_not_of(page: Path, pairs: Path, columns: int) -> None:
    """Sources in the first column, targets in the last, outputs between them, of two pairs of 16x16 shown at 128."""
    pixels = np.asarray(Image.open(page))
    assert pixels.shape[1] == GAP + columns * (128 + GAP)
    shown = [pixels[TOP : TOP + 128, GAP + place * (128 + GAP) :][:, :128] for place in range(columns)]
    first = np.asarray(Image.open(pairs / "0.png"))
    for column, half in ((0, first[:, :24]), (columns - 1, first[:, 24:])):
        expected = np.asarray(Image.fromarray(half).resize((128, 128), Image.Resampling.BICUBIC))
        assert np.abs(shown[column].astype(int) - expected).mean() < 12, column
    for column in range(1, columns - 1):
        assert np.abs(shown[column].astype(int) - shown[-1]).mean() > 20
        assert (shown[column] != 255).any()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_sweep_that_was_ended_goes_on(at: Path, recipe: Path, p2pkit: Call, number: signal.Signals) -> None:
    rows = LOSSES.partition('[[rows]]\nname = "L1+cGAN')[0]
    limits = "[set]\ntrain.max_steps = 400\ntrain.checkpoint_every = 10\ntrain.sample_every = 400\n"
    table = written(at, "losses.toml", rows.replace("[[rows]]", f"{limits}[[rows]]") + MEASURED)
    command = [sys.executable, "-m", "p2pkit", "sweep", str(table), "--device", "cpu"]
    sweep = subprocess.Popen(
        command, cwd=at, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: any((at / "sweeps" / "runs").glob("*/checkpoints/step_*")))
    except AssertionError:
        sweep.kill()
        raise
    (run,) = (at / "sweeps" / "runs").iterdir()
    sweep.send_signal(number)
    _, printed = sweep.communicate(timeout=60)
    assert sweep.returncode == (-number if number == signal.SIGKILL else 130), printed
    wait_until(lambda: not (run / ".owner").exists())  # since nobody is there who has started it
    reached = steps_of_checkpoints(run)[-1]
    assert 10 <= reached < 400

    outcome = p2pkit("sweep", table, "--json", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert f"resuming from step {reached}" in (at / "sweeps" / "logs" / f"{run.name}.log").read_text()
    assert steps_of_checkpoints(run)[-1] == 400 and outcome.json["rows"][0]["metrics"].keys() == {"mae", "psnr"}


def test_two_sweeps_do_not_share_a_folder(at: Path, recipe: Path, p2pkit: Call) -> None:
    from filelock import FileLock

    (at / "sweeps").mkdir()
    with FileLock(at / "sweeps" / ".lock"):
        outcome = p2pkit("sweep", written(at, "losses.toml", LOSSES), "--device", "cpu")
    assert outcome.code == 2 and "another sweep is running in it" in outcome.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = [0]", "extends: missing"),
        ('extends = "small.toml"', "it has no rows"),
        (LOSSES.replace("name = ", "nane = "), "rows.0.nane: unknown key; did you mean 'name'?"),
        (LOSSES.replace("L1+cGAN", "L1"), "two rows are called 'L1'"),
        (LOSSES.replace('"l1"', '"l9"'), "row 'L1': --set losses=[{\"name\" = \"l9\""),
        (LOSSES.replace("small", "smell"), "there is no such recipe file"),
        ('extends = "small.toml"\nseeds = [1, 1]\n[grid]\ntrain.max_steps = [1]', "expected each seed once"),
        ('extends = "small.toml"\nset.run.seed = 3\n[grid]\ntrain.max_steps = [1]', "take run.seed out"),
        ('extends = "small.toml"\n[grid]\ntrain.max_steps = 3', "grid.train.max_steps: found 3, expected a list"),
        (LOSSES + '[[evaluate.metrics]]\nname = "psnrr"', "did you mean 'psnr'?"),
        ("extends = ", "this is not valid TOML"),
        (LOSSES.replace("[[rows]]", 'name = "../elsewhere"\n[[rows]]', 1), "expected the name of a folder"),
        (LOSSES.replace("[[rows]]", 'name = "Runs"\n[[rows]]', 1), "and none of runs, logs"),
        (LOSSES + "[evaluate]\nmetrics = []", "evaluate.metrics: found [], expected a list"),
        ('extends = "small.toml"\nset.metrics = []\n[[rows]]\nname = "A"', "metrics: there are none to measure it by"),
        (f'extends = "small.toml"\n[grid]\nrun.name = ["{"x" * 120}"]', "write [[rows]] with names in its place"),
        ('extends = "small.toml"\n[grid]\n' + "".join(f"a{axis} = {[*range(90)]}\n" for axis in range(7)), "than 1000"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(text: str, message: str, at: Path, recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("sweep", written(at, "table.toml", text))
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err
    assert not (at / "sweeps").exists()


def test_a_grid_has_a_row_for_each_combination(at: Path, recipe: Path) -> None:
    text = 'extends = "small.toml"\n[[rows]]\nname = "A"\n[grid]\nlosses.1.weight = [10, 20]\noptimizer.lr = [0.1, 0.2]'
    rows = read_table(written(at, "table.toml", text)).rows
    assert len(rows) == 4 and len({run.digest for of_row in rows.values() for run in of_row}) == 4
    (run,) = rows["A, losses.1.weight=20, optimizer.lr=0.1"]
    assert (run.keys["losses.1.weight"], run.keys["optimizer.lr"], run.keys["run.seed"]) == (20.0, 0.1, 0)


def test_a_grid_of_tables_and_of_lists_of_them(at: Path, recipe: Path) -> None:
    grid = (
        'losses = [[{ name = "l1" }], [{ name = "gan" }, { name = "l1" }]]\ngenerator = [{ width = 4 }, { width = 8 }]'
    )
    rows = read_table(written(at, "table.toml", f'extends = "small.toml"\n[grid]\n{grid}')).rows
    (run,) = rows['losses=[{"name" = "l1"}], generator={"width" = 8}']
    assert len(rows) == 4 and run.keys["generator.width"] == 8 and "losses.1.name" not in run.keys


def test_rows_that_are_alike_are_one_run_in_a_folder_that_may_be_made(at: Path, recipe: Path) -> None:
    name = "\N{CJK UNIFIED IDEOGRAPH-20000}" * 100
    text = f'extends = "small.toml"\n[[rows]]\nname = "{name}"\n[[rows]]\nname = "B"\nset.train.max_steps = 4'
    table = read_table(written(at, "table.toml", text))
    (folder,) = table.folders(at).values()
    folder.mkdir()
    assert table.alike == [[name, "B"]]


def test_layers_of_a_table_join(at: Path, recipe: Path) -> None:
    text = 'extends = "small.toml"\nset.generator.width = 8\n[[rows]]\nname = "A"\nset.generator.depth = 2'
    ((run,),) = read_table(written(at, "table.toml", text), {"generator.dropout": 0.0}).rows.values()
    assert [run.keys[f"generator.{key}"] for key in ("width", "depth", "dropout")] == [8, 2, 0.0]


def test_the_papers_tables_on_drawn_facades_are_28_runs() -> None:
    tables = [read_table(f"p2pkit:{file.stem}") for file in sorted((REPOSITORY / "recipes/sweeps").glob("facades*"))]
    runs = {run.digest: run for table in tables for of_row in table.rows.values() for run in of_row}
    assert [len(table.rows) for table in tables] == [4, 3, 5, 4] and len(runs) == 28
    of_losses = {
        row: of_row[0].keys for row, of_row in next(t for t in tables if t.name == "facades_losses").rows.items()
    }
    assert [keys["discriminator.conditional"] for keys in of_losses.values()] == [True, False, True, False, True]
    names = [[keys.get(f"losses.{place}.name") for place in (0, 1)] for keys in of_losses.values()]
    assert names == [["l1", None], ["gan", None], ["gan", None], ["gan", "l1"], ["gan", "l1"]]


@pytest.mark.skipif("cityscapes" not in library.components("datasets"), reason="the data set is not there")
@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "recipes/sweeps").glob("cityscapes*")), ids=lambda file: file.stem
)
def test_the_papers_tables_on_cityscapes(file: Path) -> None:
    facades = read_table(file.with_name(file.name.replace("cityscapes", "facades")))
    assert read_table(file).rows.keys() == facades.rows.keys()


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227)]
)
def test_students_t(freedom: int, value: float) -> None:
    assert student_t(freedom) == pytest.approx(value, rel=1e-5)


def test_means_over_seeds() -> None:
    assert mean_over([2.0]).half is None and str(mean_over([2.0])) == "2.0000"
    assert str(mean_over([1.0, 3.0])) == f"2.0000 ± {12.7062:.4f}"
    assert mean_over([1.0, float("nan")]).half is None
