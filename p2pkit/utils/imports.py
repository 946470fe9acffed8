"""Imports of large libraries, which take most of the time until a command begins."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Keep Python's garbage collector from looking, again and again, through what is imported in the body, and stays.

    It is a fifth of the time that PyTorch and torchvision take.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # all that is there is of the oldest generation now, which is seldom looked through
        if enabled:
            gc.enable()
