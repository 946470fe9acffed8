"""The processes that read ahead: those that are killed, stopped or stuck are found while a batch is awaited."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from p2pkit.errors import DataError, first_line
from p2pkit.settings import seconds_in

LOOK_EVERY_SECONDS = 1
"""While a batch is awaited, it is seen so often whether the workers live; the DataLoader's ``timeout``."""
_LOWER = 'Lower loader.workers, loader.batch_size or transform.crop_size, or set loader.cache to "none" or "disk"'
KILLED = f"a process that reads pairs has been killed ({{}}), mostly because memory ran out, in /dev/shm too. {_LOWER}"
_REASONS = (
    (re.compile(r"DataLoader worker \(pid"), KILLED),
    (
        re.compile(r"Too many open files"),
        "too many files are open to take pairs from the processes that read them ({}). Raise the limit, as in "
        "ulimit -n 65536, or lower loader.workers",
    ),
    (
        re.compile(r"shared memory|</torch_|/dev/shm"),
        f"the processes that read pairs find no room for them in shared memory, /dev/shm ({{}}). {_LOWER}",
    ),
)


def batches_of(loader: DataLoader[Any], timeout: str, asked: Callable[[], bool] = bool) -> Iterator[Any]:
    """The batches of a loader with workers, whose ``timeout`` is LOOK_EVERY_SECONDS; none once ``asked`` to stop.

    Raises:
        DataError: a worker has been killed, cannot be started, or gives nothing for ``timeout``, a duration.
    """
    others, own = set(multiprocessing.active_children()), threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGCHLD) if own and hasattr(signal, "SIGCHLD") else None
    watch, batches = _Watch(timeout, asked), None
    try:
        batches = _explained(lambda: iter(loader), watch)
        watch.workers = [process for process in multiprocessing.active_children() if process not in others]
        watch.start()
        if handler is not None:
            # PyTorch's raises wherever the program happens to be, in the middle of a step or of a checkpoint
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            watch.begin()
            batch = _awaited(batches, watch)
            watch.deadline = math.inf
            if batch is None:
                return
            yield batch
    finally:
        watch.over.set()
        batches = None  # they have five seconds each to end; one that is stopped would keep this process from ending
        watch.kill()
        if handler is not None:
            with suppress(ValueError):  # not in the main thread any more
                signal.signal(signal.SIGCHLD, handler)


class _Watch(threading.Thread):
    """Ends workers that give nothing for too long, or while somebody has ``asked`` to stop.

    Waiting for one that is stopped may be in a call without a limit.
    """

    def __init__(self, timeout: str, asked: Callable[[], bool]) -> None:
        super().__init__(name="readers", daemon=True)
        self.timeout, self.asked, self.workers = timeout, asked, list[BaseProcess]()
        self.deadline, self.late, self.left, self.over = math.inf, False, False, threading.Event()

    def begin(self) -> None:
        """A batch is awaited from now on."""
        self.deadline = time.monotonic() + seconds_in(self.timeout)

    def run(self) -> None:
        """Look once a second."""
        while not self.over.wait(LOOK_EVERY_SECONDS) and not (self.late or self.left):
            self.left = self.deadline < math.inf and self.asked()
            self.late = not self.left and time.monotonic() > self.deadline
            if self.left or self.late:
                self.kill()

    def kill(self) -> None:
        """End all workers, for a stopped process heeds no other signal, and take note of their ends.

        PyTorch's handler of SIGCHLD raises for workers that nobody has taken note of, whichever process ends next.
        """
        for process in self.workers:
            process.kill()
        for process in self.workers:
            process.join(LOOK_EVERY_SECONDS)


def _awaited(batches: Iterator[Any], watch: _Watch) -> Any:
    """The next batch; None where somebody asks to stop before it comes, for it may never."""
    while not watch.left:
        try:
            return _explained(lambda: next(batches), watch)
        except (RuntimeError, ConnectionError, EOFError, OSError, DataError) as error:
            if not watch.left and "DataLoader timed out" not in str(error):
                raise
    return None


def _explained(work: Callable[[], Any], watch: _Watch) -> Any:
    """What ``work`` gives; what it raises because workers cannot be started or are lost is a DataError."""
    try:
        return work()
    except (RuntimeError, ConnectionError, EOFError, OSError) as error:
        message, why = "", first_line(error)
        if watch.late:
            numbers = ", ".join(str(process.pid) for process in watch.workers)
            message = (
                f"the processes that read pairs ({numbers}) have given none for {watch.timeout}: they are stopped, or "
                "wait for a file system or a server that does not answer. If they need that long, raise loader.timeout"
            )
        elif not watch.workers and isinstance(error, OSError):
            why = os.strerror(error.errno) if error.errno else why
            message = f"the processes that read pairs cannot be started: {why}. Lower loader.workers"
        elif isinstance(error, ConnectionError | EOFError) and not why.startswith("Caught"):
            message = KILLED  # one that dies while it hands over a batch is a broken connection
        else:
            message = next((said for sign, said in _REASONS if sign.search(str(error))), "")
        if not message:
            raise
        watch.kill()
        raise DataError(message.replace("{}", why)) from error
