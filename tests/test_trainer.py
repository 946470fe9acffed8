"""Parts of the trainer that a run does not show by itself: shares of a batch, limits, schedules, safe files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import p2pkit
from p2pkit.errors import WriteError
from p2pkit.evaluation.baselines import ClassMeanColour
from p2pkit.run_contracts import Position
from p2pkit.settings import Limits, TrainSettings, seconds_in, steps_in
from p2pkit.training.metrics_log import MetricsWindow, drop_lines
from p2pkit.training.prepare import mend_gradients
from p2pkit.training.sync_norm import with_synchronised_norm
from p2pkit.utils.atomic import atomic_write
from p2pkit.utils.jsonl import append_line
from p2pkit.utils.seeds import derived


def test_derived_seeds_differ_by_purpose_and_stay_the_same_for_good() -> None:
    assert derived(0, "order", 1) == 7021862330116196507
    assert len({derived(0, "a", 1), derived(0, "b", 1), derived(0, "a", 2), derived(1, "a", 1)}) == 4


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("constant", {}, [1, 1, 1, 1, 1]),
        ("linear_decay", {}, [1, 1, 1, 0.5, 0]),
        ("linear_decay", {"decay_from": 0.0}, [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", {}, [1, 1, 1, 0.5, 0]),
        ("step", {"every": 3}, [1, 1, 0.1, 0.01, 0.001]),
        ("step", {"milestones": [2, 7.5], "gamma": 0.5}, [1, 0.5, 0.5, 0.25, 0.25]),
    ],
)
def test_schedules_are_functions_of_the_place_in_the_run(
    name: str, parameters: dict[str, Any], expected: list[float]
) -> None:
    schedule = p2pkit.create("schedules", name, **parameters)
    places = [Position(part / 4, 100 * part, 2.5 * part) for part in range(5)]
    assert [schedule(place) for place in places] == pytest.approx(expected)


def test_the_limit_that_comes_first_counts() -> None:
    limits = Limits.of(TrainSettings(epochs=2, max_steps=100, max_time="1m"), steps_per_epoch=10)
    assert limits.position(5, 6) == Position(0.25, 5, 0.5)
    assert limits.position(5, 30).progress == 0.5
    assert Limits.of(TrainSettings(max_time="1h"), 10).position(10**6, 1800).progress == 0.5


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("0.5h", 1800)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["5", "", "m", "5 m", "-5m", "0s", "5m later"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds_in(text)


def test_intervals_in_steps_and_epochs() -> None:
    assert [steps_in(value, 7) for value in (5, "1 epoch", "3 epochs")] == [5, 7, 21]


def test_a_metrics_window_survives_a_checkpoint_exactly() -> None:
    whole, window = MetricsWindow(), MetricsWindow()
    values = [{"l1": torch.tensor(value)} for value in (0.1, 0.7, 1 / 3)]
    for value in values:
        whole.add(value)
    window.add(values[0])
    resumed = MetricsWindow(**json.loads(json.dumps(window.state())))
    for value in values[1:]:
        resumed.add(value)
    assert resumed.means() == whole.means()


def test_instance_norm_has_the_same_gradient_in_every_layout() -> None:
    torch.manual_seed(0)
    network, image = torch.nn.InstanceNorm2d(3), torch.rand(1, 3, 6, 8)
    weights = torch.rand(1, 3, 6, 8)
    found = []
    mend_gradients(network)
    for layout in (torch.contiguous_format, torch.channels_last):
        seen = image.clone(memory_format=layout).requires_grad_()
        (network(seen) * weights.contiguous(memory_format=layout)).sum().backward()
        found.append(seen.grad)
    torch.testing.assert_close(found[0], found[1])


def test_lines_after_a_checkpoint_are_dropped_and_torn_ones_too(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_line(file, {"step": step, "split": "train"})
    append_line(file, {"step": 2, "split": "validation"})
    with file.open("a") as handle:
        handle.write('{"step": ')
    drop_lines(file, 2, {"validation"})
    assert file.read_text() == '{"step": 1, "split": "train"}\n{"step": 2, "split": "train"}\n'


def test_a_file_written_aside_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a" / "file"
    with atomic_write(file) as aside:
        aside.write_text("whole")
        assert not file.exists()
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as aside:
        aside.write_text("ha")
        raise KeyboardInterrupt
    assert file.read_text() == "whole"
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_the_system_refuses_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file"), atomic_write(tmp_path / "file" / "below"):
        raise AssertionError("never entered")


def test_the_class_mean_colour_is_the_mean_of_each_class() -> None:
    source = torch.tensor([[[-1.0, -1.0, 1.0, 1.0]]]).expand(3, 1, 4)
    target = torch.tensor([[[0.0, 0.5, -1.0, 0.0]]])
    baseline = ClassMeanColour()
    for each in (target, target * 0):
        baseline.add(source, each)
    assert baseline(source[None])[0, 0, 0].tolist() == pytest.approx([0.125, 0.125, -0.25, -0.25])
    unseen = torch.full((1, 3, 1, 1), 0.3)
    assert baseline(unseen).item() == pytest.approx(-0.0625)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_norm_over_one_process_is_batch_norm(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        plain, values = torch.nn.BatchNorm2d(3), torch.linspace(-1, 3, 300).sin().view(4, 3, 5, 5).to(dtype)
        shared = with_synchronised_norm(copy.deepcopy(plain), torch.device("cpu"))
        for norm in (plain, shared):
            norm.train()
        one, other = plain(values), shared(values)
    finally:
        torch.distributed.destroy_process_group()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert other.dtype == dtype and torch.allclose(one.float(), other.float(), atol=tolerance)
    assert torch.allclose(plain.running_var, shared.running_var, atol=1e-5)  # type: ignore[arg-type]
    shared.eval()
    plain.eval()
    assert torch.allclose(plain(values).float(), shared(values).float(), atol=tolerance)
