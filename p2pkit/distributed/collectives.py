"""Collectives: what processes share, so that all of them decide alike. With one process nothing is sent."""

from __future__ import annotations

import json
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast

from p2pkit.errors import DataError, ProcessLost, exit_code_of, first_line

T = TypeVar("T")
MEET_EVERY_SECONDS = 1.0
"""No collective that waits for the work of a process takes much longer."""


def all_gather_text(accelerator: Accelerator, text: str) -> list[str]:
    """What each process passes as ``text``, by rank, on every process."""
    if accelerator.num_processes == 1:
        return [text]
    # as bytes in a tensor: torch's own way of sharing objects pickles them
    own = torch.tensor(list(text.encode()), dtype=torch.uint8, device=accelerator.device)
    lengths = accelerator.gather(torch.tensor([len(own)], device=accelerator.device)).tolist()
    rows = accelerator.gather(F.pad(own, (0, max(lengths) - len(own)))[None]).cpu()
    return [bytes(row[:length].tolist()).decode() for row, length in zip(rows, lengths, strict=True)]


def gather_bytes(accelerator: Accelerator, own: bytes) -> list[bytes]:
    """What each process passes as ``own``, by rank, on the main process; the others get only lengths right."""
    if accelerator.num_processes == 1:
        return [own]
    rank, device = accelerator.process_index, accelerator.device
    lengths = accelerator.gather(torch.tensor([len(own)], device=device)).tolist()
    found = []
    for sender, length in enumerate(lengths):
        # one process after another, so that a device holds no more than one of them
        sent = own if sender == rank else bytes(length)
        if sender and length:
            passed = broadcast(torch.frombuffer(bytearray(sent), dtype=torch.uint8).to(device), from_process=sender)
            sent = passed.cpu().numpy().tobytes() if accelerator.is_main_process else sent
        found.append(sent)
    return found


def broadcast_text(accelerator: Accelerator, text: str) -> str:
    """What the main process passes as ``text``, on every process."""
    return text if accelerator.num_processes == 1 else all_gather_text(accelerator, text)[0]


def all_reduce_max(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """Each value's maximum over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    everyone = accelerator.gather(torch.tensor([list(values)], dtype=torch.float32, device=accelerator.device))
    maxima: list[float] = everyone.max(dim=0).values.tolist()
    return maxima


def all_reduce_mean(accelerator: Accelerator, values: Mapping[str, float]) -> dict[str, float]:
    """Each value's mean over all processes, which must pass the same names in the same order."""
    if accelerator.num_processes == 1 or not values:
        return dict(values)
    own = torch.tensor([list(values.values())], dtype=torch.float32, device=accelerator.device)
    means = accelerator.gather(own).cpu().double().mean(dim=0).tolist()
    return dict(zip(values, means, strict=True))


class SharedDataError(DataError):
    """Bad data that every process knows of, so that all can end in order."""


def on_main_process(accelerator: Accelerator, work: Callable[[], str | None], elsewhere: str = "") -> str:
    """Let the main process alone do ``work``; the text that it gives, on every process, which meet as they wait.

    Raises:
        DataError: raised by ``work``; on several processes a SharedDataError, on each of them. Its message is
            ``elsewhere``, if that is given, on all but the main one.
        ProcessLost: on all but the main one, with its exit code, when ``work`` raises anything else.
    """
    if accelerator.num_processes == 1:
        return work() or ""
    try:
        result, failures = _do_and_meet(accelerator, work if accelerator.is_main_process else str)
    except DataError as error:
        raise SharedDataError(str(error)) from error
    if failures and failures[0] and (message := json.loads(failures[0])["data"]):
        raise SharedDataError(elsewhere or message)
    _refuse(failures)
    return broadcast_text(accelerator, result or "")


def on_every_process(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Let each process do ``work``, which uses no collectives; what it gives here, once all are done.

    Raises:
        ProcessLost: ``work`` has raised on another process; it carries that one's exit code.
    """
    if accelerator.num_processes == 1:
        return work()
    result, failures = _do_and_meet(accelerator, work)
    _refuse(failures)
    return result


def _do_and_meet(accelerator: Accelerator, work: Callable[[], T]) -> tuple[T, list[str]]:
    """Do ``work`` while the processes meet; what it gives, and how it has failed on others, by rank, if it has."""
    meetings = _Meetings(accelerator)
    meetings.start()
    try:
        result = work()
        meetings.end()
    except BaseException as error:  # Ctrl-C too, and what a signal's handler raises: the others wait for this process
        what = first_line(error) or type(error).__name__
        why = f"process {accelerator.process_index} ({platform.node()}) has ended: {what}"
        data = str(error) if isinstance(error, DataError) else ""
        meetings.end(json.dumps({"code": exit_code_of(error), "why": why, "data": data}))
        raise
    if meetings.error is not None:
        raise meetings.error
    return result, meetings.failures


def _refuse(failures: Sequence[str]) -> None:
    for failure in filter(None, failures):
        found = json.loads(failure)
        raise ProcessLost(found["why"], found["code"])


class _Meetings(threading.Thread):
    """Meets the other processes every second, until all are done with what their main threads do meanwhile.

    So a collective is short however long the work takes, and those who wait notice a process that is lost. The work
    stays in the main thread, where signals arrive and whose modes (autocast, threads, device) are its own.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__(name="meetings", daemon=True)
        self.accelerator = accelerator
        self.failures: list[str] = []
        """How the work has failed, by rank; empty where it has not."""
        self.error: Exception | None = None
        """What a collective has raised."""
        self._failure, self._done, self._over = "", threading.Event(), threading.Event()

    def run(self) -> None:
        """Meet until all are done, or until one has failed."""
        try:
            busy, failed = 1.0, 0.0
            while busy and not failed:
                own = not self._done.wait(MEET_EVERY_SECONDS)
                busy, failed = all_reduce_max(self.accelerator, [own, bool(self._failure)])
            if failed:
                self.failures = all_gather_text(self.accelerator, self._failure)
        except Exception as error:
            self.error = error
        finally:
            self._over.set()

    def end(self, failure: str = "") -> None:
        """Wait until all are done; ``failure`` is passed on to the others."""
        self._failure = failure
        self._done.set()
        self._over.wait()  # not join(), which takes the thread for ended once a signal's handler has raised in it
