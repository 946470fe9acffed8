"""Randomness is counted, not carried: every draw is a function of the run's seed and of what it is for.

So nothing random needs to be saved: going on in the middle of an epoch is exact, with any number of workers.
"""

from __future__ import annotations

import hashlib


def derived(seed: int, *what: int | str) -> int:
    """A seed of 63 bits for one purpose, as in ``derived(seed, "jitter", epoch, index)``."""
    text = repr((seed, *what)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
