"""What `p2pkit bench` does, as a function: the rate of a recipe's steps, and where their time goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from p2pkit.benchmarks.advice import advice_on
from p2pkit.benchmarks.machine import Load, core_count, counted_flop, matrix_ceiling, waiting_for
from p2pkit.benchmarks.timed import CALLBACKS, FORWARD, LOGGING, OPTIMIZERS, REST, WAITING, TimedTrainer, timed_trainer
from p2pkit.distributed.accelerator import described
from p2pkit.errors import RecipeError
from p2pkit.recipe.document import Overrides, Source
from p2pkit.recipe.recipe import Recipe
from p2pkit.recipe.resolve import read_recipe
from p2pkit.training import recorded_steps
from p2pkit.utils.memory import peak_memory
from p2pkit.utils.progress import Progress

WARM_UP = 3
"""Steps that are made before the others: of the first ones much is allocated, and chosen."""
LEAST_STEPS, MOST_STEPS, SECONDS = 5, 200, 20.0
"""How many steps are measured where nobody says how many: as many as fit into so many seconds."""
LAST = (OPTIMIZERS, CALLBACKS, LOGGING, REST)
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Benchmark:
    """How fast a recipe trains here, and why it is no faster."""

    recipe: str
    """Its name."""
    device: str
    threads: int
    """Of this process on the CPU."""
    cores: int
    """That this process may use."""
    precision: str
    batch_size: int
    steps: int
    """How many were measured."""
    seconds_per_step: float
    """The mean."""
    median_seconds: float
    slowest_seconds: float
    parts: Mapping[str, float]
    """Seconds of a step by what they are spent on; they add up to :attr:`seconds_per_step`."""
    flop_per_step: int
    """Of convolutions and matrix products."""
    ceiling: float
    """FLOP/s of the fastest matrix product, in the precision of the run."""
    peak_memory: int
    """Bytes of this process, without those of the loader's workers."""
    peak_device_memory: int | None
    """Bytes of the GPU; None without one."""
    busy_cores: float
    """How many cores other programs have kept busy meanwhile."""
    idle_cores: float
    advice: Sequence[str] = ()
    """What to change, a sentence or two each; empty where nothing stands out."""
    notes: Sequence[str] = ()
    """What is to be known of the numbers."""

    @property
    def steps_per_second(self) -> float:
        """The rate of steps."""
        return 1 / self.seconds_per_step

    @property
    def images_per_second(self) -> float:
        """The rate of pairs."""
        return self.batch_size / self.seconds_per_step

    @property
    def flop_per_second(self) -> float:
        """The rate of arithmetic over all of a step."""
        return self.flop_per_step / self.seconds_per_step

    @property
    def share_of_ceiling(self) -> float:
        """That rate beside the ceiling, from 0 to about 1."""
        return self.flop_per_second / self.ceiling

    def share(self, part: str) -> float:
        """The share of a step that a part takes, from 0 to 1."""
        return self.parts.get(part, 0.0) / self.seconds_per_step

    def as_json(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        derived = ("steps_per_second", "images_per_second", "flop_per_second", "share_of_ceiling")
        return {**vars(self), **{name: getattr(self, name) for name in derived}}


@dataclass
class _Measured:
    """Steps that were made, and what their seconds were spent on."""

    seconds: list[float] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return sum(self.spent.values()) / len(self.seconds)


def bench(
    recipe: Source | Recipe, overrides: Overrides = (), device: str | None = None, steps: int | None = None
) -> Benchmark:
    """Train some steps of a recipe as :func:`p2pkit.train` does, and measure them; nothing of it is kept.

    Args:
        recipe: as for :func:`p2pkit.train`.
        overrides: what is set on top of it.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" or None for the best there is.
        steps: how many are measured; unless given, as many as take 20 seconds, from 5 to 200.

    Raises:
        RecipeError: the recipe is invalid, one of its components cannot be used, or ``steps`` is below 1.
        DataError: the data cannot be used.
    """
    if steps is not None and steps < 1:
        raise RecipeError(f"steps is {steps}, expected a number from 1 on")
    if isinstance(recipe, str | Path) and recipe and Path(recipe).is_dir():
        from p2pkit.new_recipe import recipe_of_folder

        recipe = recipe_of_folder(recipe, overrides)
    resolved = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    # names_metrics: LPIPS is not looked for, since nothing is measured by metrics
    with timed_trainer(replace(resolved, names_metrics=True), device) as trainer:
        return _measured(trainer, resolved, steps)


def _measured(trainer: TimedTrainer, recipe: Recipe, steps: int | None) -> Benchmark:
    target, dtype, notes = trainer.accelerator.device, DTYPES[recipe.train.precision], list[str]()
    ceiling = matrix_ceiling(target, dtype)
    for _ in range(2 * recipe.loader.workers):
        trainer.load()  # what was read while nothing was trained
    loaded = trainer.load()  # resizing is arithmetic too, but not the networks'
    with counted_flop() as flop:
        trainer.step(loaded)
    for _ in range(WARM_UP - 1 + (recorded_steps.WARM_UP if target.type == "cuda" else 0)):
        trainer.step(trainer.load())
    load = Load()
    measured = _steps(trainer, steps)
    busy, idle = load.cores()
    parts = measured
    if target.type != "cpu":
        trainer.tell_parts_apart()
        parts = _steps(trainer, len(measured.seconds))
        notes.append(
            "the parts are those of steps that wait for the device at each part, none of them replayed from a CUDA "
            "graph, scaled to a step as it is in a run"
        )
    if FORWARD not in parts.spent:
        notes.append("the step runs as one program: its parts cannot be told apart")
    scale = measured.mean / sum(parts.spent.values())
    found = Benchmark(
        recipe.run.name, described(target), torch.get_num_threads(), core_count(), recipe.train.precision,
        recipe.loader.batch_size, len(measured.seconds), measured.mean, statistics.median(measured.seconds),
        max(measured.seconds), {name: seconds * scale for name, seconds in in_order(parts.spent).items()},
        flop(), max(ceiling, matrix_ceiling(target, dtype)), peak_memory(),
        torch.cuda.max_memory_allocated(target) if target.type == "cuda" else None, busy, idle, (), notes,
    )  # fmt: skip
    return replace(found, advice=advice_on(found, recipe, target.type))


def _steps(trainer: TimedTrainer, steps: int | None) -> _Measured:
    """Make and time so many steps, or as many as there is time for."""
    measured, began, wait = _Measured(), time.perf_counter(), waiting_for(trainer.accelerator.device)
    wait()
    trainer.stopwatch.take()
    with Progress("measuring", steps, "step", brief=True) as progress:
        while not _are_enough(len(measured.seconds), time.perf_counter() - began, steps):
            before = time.perf_counter()
            trainer.step(trainer.load())
            measured.seconds.append(time.perf_counter() - before)
            progress.advance()
        wait()
        measured.spent = trainer.stopwatch.take()
    return measured


def _are_enough(done: int, seconds: float, wanted: int | None) -> bool:
    if wanted is not None:
        return done >= wanted
    return done >= MOST_STEPS or (done >= LEAST_STEPS and seconds >= SECONDS)


def in_order(spent: Mapping[str, float]) -> dict[str, float]:
    """What time was spent on, as it comes in a step; what took no time at all is left out."""
    first = [WAITING, FORWARD]
    names = [*first, *(name for name in spent if name not in (*first, *LAST)), *LAST]
    return {name: spent[name] for name in names if spent.get(name)}
