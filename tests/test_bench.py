"""``p2pkit bench``: where the time of steps goes, through the command line; and what it says to change."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import p2pkit as library
from p2pkit.benchmarks.advice import advice_on
from p2pkit.benchmarks.bench import Benchmark
from p2pkit.benchmarks.timed import LOGGING, OPTIMIZERS, REST, WAITING, Stopwatch, timed_trainer
from p2pkit.recipe.resolve import read_recipe
from tests.conftest import REPOSITORY, Call, train
from tests.plugins_in_tree import describe_in, in_tree
from tests.test_command_line import too_long

FACES = [
    "data.pairs=4", "data.val_pairs=2", "data.test_pairs=2", "data.size=32", "transform.load_size=32",
    "transform.crop_size=32", "generator.depth=3", "generator.width=4", "discriminator.width=4",
    "method.encoder_width=4", "method.encoder_blocks=1",
]  # fmt: skip
MEASURED = Benchmark(
    "x", "cpu", 2, 2, "no", 1, 10, 1.0, 1.0, 1.0, {WAITING: 0.1, OPTIMIZERS: 0.1, REST: 0.8}, 10**9, 1e10, 10**9, None,
    0.0, 0.0,
)  # fmt: skip


def test_the_parts_of_a_step_add_up(
    recipe: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (at := tmp_path / "empty").mkdir()
    monkeypatch.chdir(at)
    outcome = p2pkit("bench", recipe, "--steps", 3, "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    assert list(at.iterdir()) == []
    found = outcome.json
    assert list(found["parts"]) == [
        "waiting for data", "generator forward", "discriminator update", "generator update", "optimizers", "logging",
        "rest of the step",
    ]  # fmt: skip
    assert sum(found["parts"].values()) == pytest.approx(found["seconds_per_step"])
    assert all(seconds > 0 for seconds in found["parts"].values())
    assert found["steps"] == 3 and found["median_seconds"] <= found["slowest_seconds"]
    assert found["images_per_second"] == pytest.approx(2 * found["steps_per_second"])
    assert found["steps_per_second"] == pytest.approx(1 / found["seconds_per_step"])
    assert found["flop_per_second"] == pytest.approx(found["flop_per_step"] * found["steps_per_second"])
    assert 0 < found["share_of_ceiling"] < 1
    assert found["peak_memory"] > 2**26 and found["peak_device_memory"] is None


def test_what_is_printed_fits_the_screen(recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("bench", recipe, "--steps", 2, "--device", "cpu", "--set", "loader.workers=1")
    assert outcome.code == 0, outcome.err
    assert too_long(outcome.out) == []
    for part in ("steps/s", "GFLOP/s in matrix products", "waiting for data", "generator update", "peak memory: "):
        assert part in outcome.out


def test_arithmetic_grows_with_the_batch(recipe: Path) -> None:
    of_two = library.bench(recipe, device="cpu", steps=1)
    of_four = library.bench(recipe, {"loader.batch_size": 4}, "cpu", 1)
    assert of_four.flop_per_step == 2 * of_two.flop_per_step > 0


def test_steps_are_those_of_a_run(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_steps=2")
    with timed_trainer(read_recipe(recipe), "cpu") as trainer:
        for _ in range(2):
            trainer.step(trainer.load())
        weights = trainer.trained.networks["generator"].state_dict()
    saved = load_file(run / "model.safetensors")
    assert saved.keys() == weights.keys() and all(value.equal(weights[name]) for name, value in saved.items())


def test_a_method_of_a_plugin_with_more_networks(tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, _ in in_tree():
        monkeypatch.syspath_prepend(str(place))
    settings = (word for setting in FACES for word in ("--set", setting))
    options = ("--steps", 2, "--device", "cpu", "--json")
    outcome = p2pkit("--plugins-dir", describe_in(tmp_path), "bench", "bicyclegan:quickstart", *settings, *options)
    assert outcome.code == 0, outcome.err
    parts = outcome.json["parts"]
    assert {"encoder forward", "latent_discriminator forward", "generator and encoder update"} <= parts.keys()
    assert sum(parts.values()) == pytest.approx(outcome.json["seconds_per_step"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "--steps"),
        (["--set", "loader.batch_sise=2"], "did you mean 'batch_size'?"),
        (["--set", 'data.root="nowhere"'], "nowhere"),
        (["--set", "loader.batch_size=100"], "loader.batch_size"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_measured(arguments: list[str], said: str, recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("bench", recipe, "--json", *arguments)
    assert outcome.code == 2
    assert said in outcome.json["error"] and "Traceback" not in outcome.err


def test_a_loss_that_is_not_finite_leaves_nothing_behind(recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("bench", recipe, "--steps", 50, "--device", "cpu", "--set", "optimizer.lr=1e30")
    assert outcome.code == 2
    assert "Lower optimizer.lr" in outcome.err and "replay" not in outcome.err


def test_each_second_is_spent_on_one_thing() -> None:
    times = iter(range(100))
    stopwatch = Stopwatch(wait=lambda: seen.append(next(times)))
    seen: list[int] = []
    with stopwatch.on("outer"), stopwatch.on("inner"):
        assert stopwatch.current == "inner"
    assert stopwatch.current == REST
    taken = stopwatch.take()
    assert set(taken) == {REST, "outer", "inner"} and len(seen) == 5
    assert stopwatch.take().keys() == {REST}


@pytest.mark.parametrize(
    ("measured", "keys", "device", "said"),
    [
        ({}, {}, "cpu", None),
        ({"parts": {WAITING: 0.5, REST: 0.5}}, {"workers": 0}, "cpu", "loader.workers = 2"),
        ({"parts": {WAITING: 0.5, REST: 0.5}, "idle_cores": 4.0}, {"workers": 2}, "cuda", "loader.workers = 4"),
        ({"parts": {WAITING: 0.5, REST: 0.5}}, {"workers": 2}, "cpu", "loader.cache"),
        ({"parts": {LOGGING: 0.5, REST: 0.5}}, {}, "cpu", "train.log_every"),
        ({"parts": {OPTIMIZERS: 0.5, REST: 0.5}}, {}, "cpu", "loader.batch_size"),
        ({"busy_cores": 2.0}, {}, "cpu", "Other programs keep 2.0 cores busy"),
        ({"busy_cores": 2.0, "idle_cores": 60.0, "threads": 64, "cores": 64}, {}, "cpu", None),
        ({"slowest_seconds": 5.0}, {}, "cpu", "measure again"),
        ({"threads": 1, "idle_cores": 1.0}, {}, "cpu", "OMP_NUM_THREADS"),
        ({}, {}, "cuda", 'train.precision = "bf16"'),
        ({"ceiling": 2e9}, {}, "cuda", None),
    ],
)
def test_what_to_change(
    measured: dict[str, Any], keys: dict[str, Any], device: str, said: str | None, recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("torch.cuda.is_available", bool)
    monkeypatch.setattr("torch.backends.mps.is_available", bool)
    read = read_recipe(recipe, {f"loader.{name}": value for name, value in keys.items()})
    found = advice_on(replace(MEASURED, **measured), read, device)
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])


@pytest.mark.parametrize(("turns", "low", "high", "covered"), [(7, 1, 7, 0.984), (15, 4, 12, 0.965)])
def test_the_interval_of_a_ratio_is_between_two_of_its_turns(
    turns: int, low: int, high: int, covered: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    ratio = import_module("turns").ratio([2.0] * turns, [2.0 * turn for turn in range(turns, 0, -1)])
    assert ratio == {"median": (turns + 1) / 2, "low": low, "high": high, "covered": pytest.approx(covered, abs=1e-3)}


def test_a_folder_of_pairs_is_measured_by_the_recipe_that_is_made_for_it(pairs: Path) -> None:
    small = {"generator.depth": 2, "generator.width": 2, "discriminator.width": 2, "loader.workers": 0}
    assert library.bench(pairs, small, "cpu", 1).steps == 1
