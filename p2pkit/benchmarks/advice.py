"""What to change so that a recipe trains faster: rules, each with its reason, on what was measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pkit.benchmarks.timed import CALLBACKS, LOGGING, OPTIMIZERS, WAITING
from p2pkit.recipe.recipe import Recipe

if TYPE_CHECKING:
    from p2pkit.benchmarks.bench import Benchmark

MUCH_WAITING, MUCH_BESIDE, MUCH_OPTIMIZING = 0.2, 0.1, 0.25
"""Shares of a step: of waiting for data, of logging or callbacks, of the optimizers."""
LOW_SHARE = 0.3
"""Of the ceiling, below which a GPU has too little to do at a time."""
UNEVEN = 3.0
"""How many times as long as the median the slowest step takes where something has disturbed it."""


def advice_on(found: Benchmark, recipe: Recipe, device: str) -> list[str]:
    """What to change, the most telling first; nothing where nothing stands out."""
    return [*_of_data(found, recipe), *_of_cores(found, device), *_of_device(found, recipe, device), *_beside(found)]


def _of_data(found: Benchmark, recipe: Recipe) -> Iterator[str]:
    if (share := found.share(WAITING)) <= MUCH_WAITING:
        return
    workers, cached = recipe.loader.workers, recipe.loader.cache != "none"
    wait = f"{share:.0%} of a step is waiting for data"
    ways = (
        [] if cached else ['keep decoded pairs (loader.cache = "memory", or "disk" for all processes and later runs)']
    )
    if workers == 0 and found.cores > 1:
        ways.insert(0, "let other processes read ahead (loader.workers = 2)")
    elif workers and found.idle_cores >= 1:
        ways.insert(0, f"read in more processes (loader.workers = {2 * workers})")
    ways.append("store images no larger than transform.load_size")
    if recipe.transform.load_size is not None and not recipe.transform.reduced_jpeg:
        ways.append("decode large JPEGs at reduced size (transform.reduced_jpeg = true)")
    yield f"{wait}: {', or '.join(ways)}."


def _of_cores(found: Benchmark, device: str) -> Iterator[str]:
    crowded = found.busy_cores > 0.5 and found.idle_cores < 0.5
    if crowded:
        passive = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"
        wait = "" if passive or device != "cpu" else ", or start this with OMP_WAIT_POLICY=PASSIVE in the environment"
        yield f"Other programs keep {found.busy_cores:.1f} cores busy, and none is left: end them{wait}."
    elif found.slowest_seconds > UNEVEN * found.median_seconds:
        yield (
            f"The slowest step took {found.slowest_seconds / found.median_seconds:.1f} times as long as the median: "
            "something disturbed it, so measure again."
        )
    if device == "cpu" and not crowded and found.threads < found.cores and found.idle_cores >= 1:
        yield (
            f"{found.threads} of {found.cores} cores compute, and {found.idle_cores:.1f} are idle: set OMP_NUM_THREADS "
            "to the number of cores."
        )


def _of_device(found: Benchmark, recipe: Recipe, device: str) -> Iterator[str]:
    import torch

    if device == "cpu":
        if torch.cuda.is_available() or torch.backends.mps.is_available():
            yield "This machine has a GPU, and the CPU computes: leave --device out."
        return
    if found.share_of_ceiling >= LOW_SHARE or found.share(WAITING) > MUCH_WAITING:
        return
    ways = []
    if recipe.train.precision == "no":
        ways.append('compute in bfloat16 (train.precision = "bf16")')
    ways.append(f"take more pairs a step (loader.batch_size, now {recipe.loader.batch_size}), which trains otherwise")
    yield f"The step takes {found.share_of_ceiling:.0%} of what the device could do: {', or '.join(ways)}."


def _beside(found: Benchmark) -> Iterator[str]:
    if (share := found.share(LOGGING)) > MUCH_BESIDE:
        yield f"{share:.0%} of a step is logging: raise train.log_every."
    if (share := found.share(CALLBACKS)) > MUCH_BESIDE:
        yield f"{share:.0%} of a step is spent in callbacks: have them do less, or less often."
    if (share := found.share(OPTIMIZERS)) > MUCH_OPTIMIZING:
        yield (
            f"{share:.0%} of a step is spent in optimizers, which is the same for any number of pairs: take more of "
            "them a step (loader.batch_size), which trains otherwise, or narrower networks (generator.width)."
        )
