"""Ctrl-C, SIGTERM, a closed terminal: the step in hand is finished and a checkpoint written; the second leaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from p2pkit.errors import P2PKitError
from p2pkit.utils.progress import process_count

SIGNALS = [signal.SIGINT, signal.SIGTERM]
"""Ctrl-C, a polite kill, a closed terminal, and what SLURM is asked to send before the time is up."""
if sys.platform != "win32":
    SIGNALS += [signal.SIGHUP, signal.SIGUSR1]


ECHO_SECONDS = 1.0
"""With several processes a signal that follows so soon repeats the first: torchrun passes on what all have got."""


class Interrupted(P2PKitError, KeyboardInterrupt):  # noqa: N818 - no error: somebody asked for it
    """Work was asked to stop, and what it wrote is whole. ``exit_code`` is 128 and the signal's number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


@dataclass
class Interruption:
    """While :meth:`remembered`, the first signal is kept here, and the process does not die of it."""

    signal: int = 0
    """The number of the signal that came, 0 before."""
    last_words: str = ""
    """Printed when a second signal leaves at once: what has gone wrong, and is not told yet."""
    _came: float = 0.0

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Let no signal end the process in the body, until a second one comes."""
        former = dict[signal.Signals, Any]()
        try:
            for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, say
                    former[number] = signal.signal(number, self._remember)
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._came = number, time.monotonic()
        elif process_count() == 1 or time.monotonic() - self._came > ECHO_SECONDS:
            with suppress(OSError):  # stderr may be closed
                os.write(2, self.last_words.encode(errors="backslashreplace"))
            os._exit(128 + number)


@contextmanager
def stopped_by_signals(message: str) -> Iterator[None]:
    """For work that need not finish its step: what interrupts ends the body at once, and raises Interrupted from here.

    Within the body it is a KeyboardInterrupt, which nobody takes for damage of the file in hand.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(came[0] if came else signal.SIGINT, message) from None
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
