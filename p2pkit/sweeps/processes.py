"""Several runs at once, each in a process of its own with its share of cores, or a GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pkit.errors import visible
from p2pkit.utils.atomic import os_errors_described
from p2pkit.utils.opening import open_regular
from p2pkit.utils.progress import Progress, clock, print_line
from p2pkit.utils.signals import Interrupted, Interruption

CORES_EACH = 2
"""Without a GPU there is a run at a time for so many cores, unless it is said how many."""
LOOK_EVERY_SECONDS = 0.1
TAIL = 4000
"""So many bytes of the end of a log are looked at."""


@dataclass(frozen=True)
class Job:
    """What one process does, as p2pkit.sweeps.job takes it."""

    called: str
    """The row and the seed, in words."""
    folder: Path
    log: Path
    what: Mapping[str, Any]


@dataclass(frozen=True)
class Places:
    """How many runs there are at a time, and what each gets."""

    count: int
    gpus: Sequence[str]
    """The GPUs to share out, as CUDA_VISIBLE_DEVICES has them; empty where runs are not on them."""
    threads: int

    @classmethod
    def found(cls, count: int | None, device: str | None, runs: int) -> Places:
        """A run for each GPU, or for two cores; or ``count`` of them, which share these."""
        from p2pkit.benchmarks.machine import core_count  # it imports torch

        cores = core_count()
        gpus = _gpus() if device in (None, "auto", "cuda") else []
        count = max(1, min(count or len(gpus) or cores // CORES_EACH, runs))
        return cls(count, gpus, max(1, cores // count))

    def environment(self, place: int) -> dict[str, str]:
        """The variables of the process in a ``place``, from 0 on. Threads that are set already stay."""
        variables = {"OMP_NUM_THREADS": str(self.threads), **os.environ}
        # what is imported here is to be imported there, a folder of plugins too, and nothing else (-P)
        variables["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        return variables


def _gpus() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else list(map(str, range(count)))


@dataclass(eq=False)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, job: Job, variables: Mapping[str, str]) -> _Running:
        with os_errors_described(job.log):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            log = job.log.open("wb")
        with log:
            command = [sys.executable, "-P", "-m", "p2pkit.sweeps.job", json.dumps(job.what)]
            # in a session of its own: Ctrl-C reaches this process alone, which ends the others, once
            process = subprocess.Popen(
                command, env=dict(variables), stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        return cls(job, process)

    def stop(self) -> None:
        """Have it write a checkpoint and end: it goes by its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def look(self) -> tuple[str, float]:
        """The last line of its log, and how much of its training is done, as far as that says."""
        text = _tail(self.job.log)
        found = re.findall(r"^training: (\d+)/(\d+) ", text, re.MULTILINE)
        return _last_line(text), int(found[-1][0]) / max(1, int(found[-1][1])) if found else 0.0

    def failure(self) -> str:
        """Why it has failed; "" where it has not."""
        code, text = self.process.returncode, _tail(self.job.log)
        if not code:
            return ""
        if code < 0:
            return f"signal {-code} ended it, as the system does where memory runs out; the log: {self.job.log}"
        _, mark, message = f"\n{text}".rpartition("\nError: ")
        return visible(" ".join(message.split())) if mark else f"{_last_line(text)}; the log: {self.job.log}"


def run_jobs(jobs: Sequence[Job], places: Places, done: int) -> dict[Path, str]:
    """Do all ``jobs``, after ``done`` others; why those have failed that did, by run folder.

    Raises:
        Interrupted: by a signal; those that ran have written checkpoints.
    """
    waiting, running, failures = deque(jobs), dict[int, _Running](), dict[Path, str]()
    interruption, total = Interruption(), done + len(jobs)
    with ExitStack() as held:
        held.enter_context(interruption.remembered())
        held.callback(_stop, running)
        progress = held.enter_context(Progress("sweep", total, "run", start=done))
        while waiting or running:
            if interruption.signal:
                break
            for place in set(range(places.count)) - running.keys():
                if waiting:
                    running[place] = _Running.start(waiting.popleft(), places.environment(place))
            time.sleep(LOOK_EVERY_SECONDS)
            ended = [place for place, one in running.items() if one.process.poll() is not None]
            for place in ended:
                one = running.pop(place)
                took = clock(time.monotonic() - one.began)
                if failure := one.failure():
                    failures[one.job.folder] = failure
                print_line(f"{one.job.called}: {f'failed: {failure}' if failure else f'done in {took}'}")
            seen = [(one.job.called, *one.look()) for one in running.values()]
            notes, part = [f"{called}: {line}" for called, line, _ in seen], sum(share for _, _, share in seen)
            progress.advance(len(ended), notes, (progress.done + len(ended) + part) / total)
    if interruption.signal:
        what = "interrupted; what ran has written a checkpoint, and the same command goes on from there"
        raise Interrupted(interruption.signal, what)
    return failures


def _stop(running: Mapping[int, _Running]) -> None:
    for one in running.values():
        one.stop()
    for one in running.values():
        one.process.wait()


def _last_line(text: str) -> str:
    lines = text.splitlines()
    return lines[-1].strip() if lines else ""


def _tail(log: Path) -> str:
    try:
        with open_regular(log) as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read(TAIL).decode(errors="replace")
    except OSError:
        return ""
