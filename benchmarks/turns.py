"""Measuring in turns: processes that are asked for one turn at a time, and ratios of what they took."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

LEAST_TURNS = 7
"""From which on the interval of a median is one of 95% or more."""
COVERAGE = 0.95
SPIN = "while True: pass"
OURS = "side_ours.py"
LEFT_OUT = 4
"""Batches at the beginning of a turn of loading that are not counted: workers have read them ahead."""
MOST_BATCHES = 16
"""That training holds in memory; more steps go through these again."""
Task = Generator[Any, bool, None]
"""What a side does (see :func:`serve`)."""


class Side:
    """A process that does one thing, a turn at a time; between its turns it waits for a line, and is idle."""

    def __init__(self, script: str, task: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        words = [sys.executable, str(Path(__file__).with_name(script)), task, json.dumps(given)]
        self.name = f"{script} {task}"
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - what its libraries print; shown where it fails
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, env=environment
        )

    def be_ready(self) -> None:
        """Wait until it is warm."""
        self._answer()

    def turn(self) -> float:
        """The seconds of a unit of its work, of one turn."""
        return float(self._asked("turn")["seconds"])

    def end(self) -> dict[str, Any]:
        """What it has to say at its end: peak memory, FLOP of a unit ..."""
        found = self._asked("end")
        self.process.wait()
        return found

    def _asked(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # all else is what libraries print
                found: dict[str, Any] = json.loads(line)
                return found
        self.said.seek(0)
        raise SystemExit(f"{self.name} has ended before its answer:\n{self.said.read()}")


@contextmanager
def sides(*wanted: tuple[str, str, Mapping[str, Any]]) -> Iterator[list[Side]]:
    """Several of them, ended whatever happens."""
    from p2pkit.utils.openmp import set_spinning  # the other side, which reads this file too, goes without p2pkit

    ours = dict(os.environ)
    set_spinning(ours)  # as the command line does, which finds the cores as they are before all these begin
    with ExitStack() as stack:
        made = []
        for script, *rest in wanted:
            made.append(Side(script, *rest, ours if script == OURS else os.environ))
            stack.callback(made[-1].process.kill)
        for side in made:  # which begin at the same time
            side.be_ready()
        yield made


def serve(make: Mapping[str, Any]) -> None:
    """Be a side: make the task that the arguments name, and answer.

    A task is a generator: it yields None when it is warm, then the seconds of a unit for each turn; asked for no more,
    it is sent True, and yields what it has to say.
    """
    task, given = sys.argv[1], json.loads(sys.argv[2])
    work = make[task](**given)
    next(work)
    _print({})
    for line in sys.stdin:
        if line.strip() == "end":
            from p2pkit.utils.memory import peak_memory

            spins = os.environ.get("GOMP_SPINCOUNT", "not set")
            _print({**work.send(True), "peak_memory": peak_memory(), "GOMP_SPINCOUNT": spins})
            return
        _print({"seconds": work.send(False)})


def _print(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def in_turns(found: Sequence[Side], turns: int) -> list[list[float]]:
    """The seconds of each side in each turn; who begins changes from turn to turn."""
    seconds: list[list[float]] = [[] for _ in found]
    for turn in range(turns):
        order = range(len(found)) if turn % 2 == 0 else reversed(range(len(found)))
        for index in order:
            seconds[index].append(found[index].turn())
    return seconds


def ratio(ours: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """The median of the others' seconds by ours, turn by turn, and an interval of it by order statistics.

    It holds the true median with at least 95% wherever turns are independent, whatever their distribution.
    """
    ratios = sorted(other / own for own, other in zip(ours, others, strict=True))
    count, depth = len(ratios), 0
    while 1 - 2 * _below(depth + 1, count) >= COVERAGE:
        depth += 1
    low, high = ratios[max(depth - 1, 0)], ratios[min(count - depth, count - 1)]
    covered = 1 - 2 * _below(max(depth, 1), count)
    return {"median": statistics.median(ratios), "low": low, "high": high, "covered": covered}


def _below(depth: int, count: int) -> float:
    """How probable it is that fewer than ``depth`` of ``count`` values lie below the median."""
    return float(sum(math.comb(count, below) for below in range(depth)) / 2**count)


@contextmanager
def busy_cores(wanted: bool) -> Iterator[None]:
    """One process that spins for each core, during the body."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(os.cpu_count() or 1) if wanted]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
