"""Attacks: a hostile input, the command that is given it, and what this may cost at most.

A module of this folder that has ``ATTACKS`` is taken in by test_attacks.py; one more input is one more line there.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.conftest import Call, Outcome

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What controls a terminal, or turns the order of what is read there; lines may end, and tabs stand in them."""
MB = 2**20
PEAK = re.compile(r"VmHWM:\s*(\d+) kB")


@dataclass(frozen=True)
class Attack:
    """A hostile input. ``prepare`` writes it into an empty folder, and gives the arguments of the program."""

    family: str
    """The kind of harm, as the table in docs/reliability.md has it."""
    name: str
    prepare: Callable[[Path], Sequence[object]]
    says: Sequence[str] = ()
    """What the message must contain."""
    codes: Collection[int] = (2,)
    """The exit codes that are right: 2 where it is refused, 0 where it has to work."""
    memory: int = 300 * MB
    """How many bytes more than before the process may take at its peak."""
    disk: int = 20 * MB
    """How many bytes may be written beside what was prepared."""
    seconds: int = 20
    settled: Callable[[Path, Outcome], None] | None = None
    """What else must be so afterwards; it asserts."""
    around: Callable[[Path], AbstractContextManager[object]] = nullcontext
    """What is so while it is prepared and made: variables of the environment, a server. It is given the folder."""

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def withstand(attack: Attack, folder: Path, program: Call) -> None:
    """Make the attack and see that it does what it should: no traceback, no harm, within its limits."""
    with attack.around(folder):
        arguments = attack.prepare(folder)
        before = size_of(folder)
        with ended_after(attack.seconds), files_no_larger_than(attack.disk + before), peak_memory() as peak:
            outcome = program(*arguments)
    printed = outcome.out + outcome.err
    assert "Traceback" not in printed, printed
    assert outcome.code in attack.codes, f"exit code {outcome.code}: {printed}"
    assert not (found := CONTROLS.search(printed)), f"{found}: {printed!r}"
    for part in attack.says:
        assert part in printed, f"{part!r} is not said: {printed}"
    if "--json" in map(str, arguments):
        json.loads(outcome.out)
    grown = size_of(folder) - before
    assert grown <= attack.disk, f"{grown / MB:.0f} MB were written"
    assert peak[0] <= attack.memory, f"{peak[0] / MB:.0f} MB of memory were taken"
    if attack.settled:
        attack.settled(folder, outcome)


class TooLong(BaseException):
    """The time of an attack is over; nothing may catch it for an error of the input."""


@contextmanager
def ended_after(seconds: int) -> Iterator[None]:
    """End what takes longer."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"it takes more than {seconds} s")

    former = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Refuse the process larger files, so that an attack that holds does not fill the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Puts into a list how many bytes more the process has had in the body than before; 0 where that is not known."""
    found = [0]
    if sys.platform != "linux":
        yield found
        return
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    try:
        yield found
    finally:
        found[0] = _peak() - before


def _peak() -> int:
    match = PEAK.search(Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def size_of(folder: Path) -> int:
    """How many bytes the files below a folder take on the disk."""
    return sum(each.lstat().st_blocks * 512 for each in folder.rglob("*") if not each.is_dir())
