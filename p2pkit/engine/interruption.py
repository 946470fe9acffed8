"""Ctrl-C, SIGTERM, a closed terminal: the step in hand is finished and a checkpoint written; the second leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from p2pkit.errors import P2PKitError
from p2pkit.processes import count

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, a polite kill, a closed terminal, and what SLURM is asked to send before the time is up."""


ECHO_SECONDS = 1.0
"""With several processes a signal that follows so soon repeats the first: torchrun passes on what all have got."""


class Interrupted(P2PKitError):  # noqa: N818 - no error: somebody asked for it
    """A run was asked to stop and has written a checkpoint. ``exit_code`` is 128 and the signal's number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Interruption:
    """While entered, remembers the first signal instead of dying of it."""

    def __init__(self) -> None:
        self.signal = 0
        """The number of the signal that came, 0 before."""
        self._came = 0.0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._came = number, time.monotonic()
        elif count() == 1 or time.monotonic() - self._came > ECHO_SECONDS:
            os._exit(128 + number)
