"""The processes that read ahead: those that are killed, stopped or stuck are found while a batch is awaited."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from p2pkit.errors import DataError, first_line
from p2pkit.settings import seconds_in

LOOK_EVERY_SECONDS = 1
"""While a batch is awaited, it is seen so often whether the workers live; the DataLoader's ``timeout``."""
_LOWER = "Lower loader.workers, loader.batch_size or transform.crop_size, or leave loader.cache off"
_REASONS = (
    (
        re.compile(r"DataLoader worker \(pid"),
        f"a process that reads pairs has been killed ({{}}), mostly because memory ran out, in /dev/shm too. {_LOWER}",
    ),
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


def batches_of(loader: DataLoader[Any], timeout: str) -> Iterator[Any]:
    """The batches of a loader with workers, whose ``timeout`` is LOOK_EVERY_SECONDS.

    Raises:
        DataError: a worker has been killed, cannot be started, or gives nothing for ``timeout``, a duration.
    """
    others = set(multiprocessing.active_children())
    workers, own = list[BaseProcess](), threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGCHLD) if own and hasattr(signal, "SIGCHLD") else None
    batches: Iterator[Any] | None = None
    try:
        batches = _explained(lambda: iter(loader), [])
        workers = [process for process in multiprocessing.active_children() if process not in others]
        if handler is not None:
            # PyTorch's raises wherever the program happens to be, in the middle of a step or of a checkpoint
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            yield _awaited(batches, timeout, workers)
    finally:
        batches = None  # they have five seconds each to end; one that is stopped would keep this process from ending
        _kill(workers)
        if handler is not None:
            with suppress(ValueError):  # not in the main thread any more
                signal.signal(signal.SIGCHLD, handler)


def _awaited(batches: Iterator[Any], timeout: str, workers: Sequence[BaseProcess]) -> Any:
    deadline = time.monotonic() + seconds_in(timeout)
    while True:
        try:
            return _explained(lambda: next(batches), workers)
        except RuntimeError as error:
            if "DataLoader timed out" not in str(error):
                raise
            if time.monotonic() > deadline:
                _kill(workers)
                numbers = ", ".join(str(process.pid) for process in workers)
                raise DataError(
                    f"the processes that read pairs ({numbers}) have given none for {timeout}: they are stopped, or "
                    "wait for a file system or a server that does not answer. If they need that long, raise "
                    "loader.timeout"
                ) from error


def _explained(work: Callable[[], Any], workers: Sequence[BaseProcess]) -> Any:
    """What ``work`` gives; what it raises because workers cannot be started or are lost is a DataError."""
    try:
        return work()
    except (RuntimeError, ConnectionError, EOFError, OSError) as error:
        if not workers and isinstance(error, OSError):
            why = os.strerror(error.errno) if error.errno else str(error)
            raise DataError(f"the processes that read pairs cannot be started: {why}. Lower loader.workers") from error
        for sign, message in _REASONS:
            if sign.search(str(error)):
                _kill(workers)
                raise DataError(message.format(first_line(error))) from error
        # one that dies while it hands over a batch is a broken connection
        if isinstance(error, ConnectionError | EOFError) and not str(error).startswith("Caught"):
            _kill(workers)
            raise DataError(_REASONS[0][1].format(first_line(error))) from error
        raise


def _kill(workers: Sequence[BaseProcess]) -> None:
    """End those that still live: a stopped process heeds no other signal."""
    for process in workers:
        if process.is_alive():
            process.kill()
