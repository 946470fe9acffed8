"""Randomness is counted, not carried: every draw is a function of the run's seed and of what it is for.

So nothing random needs to be saved: resuming in the middle of an epoch is exact, with any number of workers.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.random import mtrand

_GENERATOR = np.random.MT19937()


def derived(seed: int, *what: int | str) -> int:
    """A seed of 63 bits for one purpose, as in ``derived(seed, "order", epoch)``."""
    text = repr((seed, *what)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_step(seed: int, step: int, rank: int) -> int:
    """Seed all that a process draws in the step that follows ``step`` steps; the step's own seed."""
    from accelerate.utils import set_seed

    own = derived(seed, "step", step, rank)
    set_seed(own % 2**32)
    return own


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's global random states for the body, and put them back at its end.

    Those of the CPU alone: a worker that was forked must not touch CUDA. It takes some 25 microseconds.
    """
    import torch

    before = random.getstate(), mtrand.get_bit_generator(), torch.default_generator.get_state()
    nested = _GENERATOR.state if before[1] is _GENERATOR else None
    random.seed(seed)
    mtrand.set_bit_generator(_GENERATOR)  # to copy NumPy's state and put it back is four times as slow
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        mtrand.set_bit_generator(before[1])
        if nested is not None:
            _GENERATOR.state = nested
        torch.default_generator.set_state(before[2])


def following_draws() -> tuple[float, float, float]:
    """What comes next from the global random states of :func:`seeded`, by which it is seen whether something was drawn.

    They move on by that.
    """
    import torch

    return random.random(), float(np.random.random()), float(torch.rand(()))


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put Python's, NumPy's and PyTorch's global random states back at the end, those of all devices."""
    import torch

    states = random.getstate(), np.random.get_state()
    try:
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
