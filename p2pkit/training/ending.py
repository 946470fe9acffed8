"""Runs that end before their limit: what ends them is told, and also what fails while they are ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from p2pkit.errors import P2PKitError, reason
from p2pkit.utils.signals import Interruption

E = TypeVar("E", bound=P2PKitError)


def told_with(first: E, work: Callable[[], str], interruption: Interruption, otherwise: Callable[[], str]) -> E:
    """``first``, and below it what ``work`` says, which saves what can be saved: or that it fails, and ``otherwise``.

    A second signal, which ends the process at once meanwhile, leaves ``first`` printed.
    """
    interruption.last_words = f"Error: {first}\n"
    try:
        said = work()
    except Exception as second:
        said = f"What was to be saved then could not be: {reason(second)}\n{otherwise()}"
    interruption.last_words = ""
    return type(first)(f"{first}\n{said}")
