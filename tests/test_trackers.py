"""Trackers: what TensorBoard and W&B have of a run, read back from their files, all of them in the run folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from accelerate import tracking
from accelerate.tracking import GeneralTracker
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import Call, lines, train

BLOCK, WHOLE, LAST = 32768, 1, 4
"""Of LevelDB's log format: the size of a block, and the kinds of fragments that end a record."""
SETTINGS = ("validation.every=2", "schedule.name=linear_decay")


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and a folder to work in, in which nobody has written."""
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.chdir(home / "work")
    return home


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}


def same(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> bool:
    """Whether the steps are the same, and the values but for their precision."""
    return dict(found) == pytest.approx(dict(expected), rel=1e-6) and len(found) == len(expected)


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name, as metrics.jsonl has them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines(run):
        for name, value in line.items():
            if name not in ("step", "split", "epoch"):
                found.setdefault(name, []).append((line["step"], value))
    return found


def test_tensorboard_has_losses_rates_metrics_and_pictures(
    p2pkit: Call, recipe: Path, tmp_path: Path, at_home: Path
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", 'run.trackers=["tensorboard"]', *SETTINGS)
    (events,) = {file.parent for file in run.rglob("events.out.tfevents.*")}
    read = EventAccumulator(str(events))
    read.Reload()
    expected = logged(run)
    assert {"generator/l1", "generator/lr", "validation/mae"} < expected.keys()
    for name, values in expected.items():
        assert same([(event.step, event.value) for event in read.Scalars(name)], values), name
    shown = read.Images("samples")
    assert [picture.step for picture in shown] == [2, 4]
    with Image.open(run / "samples" / "step_00000004.png") as grid:
        assert (shown[1].width, shown[1].height) == grid.size
    assert all("p2pkit/headers" in name for name in files_in(at_home)), files_in(at_home)


def test_wandb_has_the_same_in_offline_mode(
    p2pkit: Call, recipe: Path, tmp_path: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train(p2pkit, recipe, tmp_path / "run", 'run.trackers=["wandb"]', *SETTINGS)
    wandb.teardown()  # ends its service, which writes the rest
    (file,) = run.rglob("*.wandb")
    history = history_in(file)
    for name, values in logged(run).items():
        assert same([(row["_step"], row[name]) for row in history if name in row], values), name
    pictures = [(row["_step"], row["samples/filenames"]) for row in history if "samples/filenames" in row]
    assert [step for step, _ in pictures] == [2, 4]
    kept = file.parent / "files" / pictures[1][1][0]
    with Image.open(run / "samples" / "step_00000004.png") as grid, Image.open(kept) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(grid))
    assert all("p2pkit/headers" in name for name in files_in(at_home)), files_in(at_home)


def history_in(file: Path) -> list[dict[str, Any]]:
    """What was logged, step by step: W&B's records, in LevelDB's log format behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, record, rows = file.read_bytes(), 7, b"", list[dict[str, Any]]()
    assert data.startswith(b":W&B")
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # no fragment begins in a block's last bytes
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (WHOLE, LAST):
            read, record = Record.FromString(record), b""
            items = read.history.item
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            rows += [row] if row else []
    return rows


def test_resuming_hides_what_was_tracked_of_steps_that_are_made_again(
    p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", 'run.trackers=["tensorboard"]')
    for file in (run / "checkpoints" / "step_00000004").iterdir():
        file.unlink()
    (run / "checkpoints" / "step_00000004").rmdir()
    assert p2pkit("run", "--resume", run).code == 0
    (events,) = {file.parent for file in run.rglob("events.out.tfevents.*")}
    read = EventAccumulator(str(events))
    read.Reload()
    assert [event.step for event in read.Scalars("generator/l1")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("tracker", "complaint"),
    [
        ("tensorbord", "run.trackers.0: found 'tensorbord', expected one of: "),
        ("tensorbord", "wandb; did you mean 'tensorboard'?"),
        ("aim", "run.trackers: 'aim' is not installed; pip install 'aim<4'"),
        ("clearml", "run.trackers: 'clearml' is not installed; pip install clearml"),
    ],
)
def test_trackers_that_cannot_be_used_are_refused(
    tracker: str, complaint: str, p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.TENSORBOARD])
    for command in (("check", recipe), ("run", recipe, "--out", tmp_path / "run")):
        outcome = p2pkit(*command, "--set", f'run.trackers=["{tracker}"]')
        assert outcome.code == 2 and complaint in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_does_not_start_is_reported_in_one_sentence(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NotLoggedIn(GeneralTracker):  # type: ignore[misc]
        name, requires_logging_directory = "wandb", False

        def __init__(self, run_name: str, **options: object) -> None:
            raise ConnectionError("no API key configured")

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", NotLoggedIn)
    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", {"wandb": NotLoggedIn})
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", "--set", 'run.trackers=["wandb"]')
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert "run.trackers: they do not start: ConnectionError: no API key configured; WANDB_MODE=offline" in outcome.err
