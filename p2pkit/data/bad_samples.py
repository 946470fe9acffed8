"""Bad samples, where a recipe says to skip them: what takes their place, and the log of those skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

from p2pkit.errors import DataError, Unavailable, listed
from p2pkit.settings import BadData
from p2pkit.utils.jsonl import append_line, keep_lines
from p2pkit.utils.progress import print_line

REASONS = 5
"""How many reasons a message gives when no pair at all can be used."""

T = TypeVar("T")


@dataclass
class SkipBadSamples:
    """Puts the next pair that can be used in the place of one that cannot, wrapping round at the end of the data set.

    What takes whose place is a function of the data alone. A bad sample is read and reported once.
    """

    count: int
    policy: BadData
    _bad: dict[int, str] = field(default_factory=dict)

    def first_usable(self, index: int, use: Callable[[int], T]) -> tuple[T, list[str]]:
        """What ``use`` makes of the first pair from ``index`` on that it takes, and the messages on those skipped.

        Raises:
            DataError: ``use`` has raised one and the policy is to stop, or it has raised one for every pair.
        """
        skipped: list[str] = []
        for candidate in chain(range(index, self.count), range(index)):
            if candidate in self._bad:
                continue
            try:
                return use(candidate), skipped
            except Unavailable:
                raise
            except DataError as error:
                if self.policy == "stop":
                    raise
                self._bad[candidate] = str(error)
                skipped.append(str(error))
        raise none_usable([self._bad[bad] for bad in sorted(self._bad)])


def none_usable(reasons: Sequence[str]) -> DataError:
    """The error of a data set of which no pair can be used."""
    return DataError(f"none of the {len(reasons)} pairs can be used:{listed(reasons, REASONS)}")


class SkippedLog:
    """The skipped log: each bad sample of a run is printed, and written into a file as a JSON line, once a run."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @cached_property
    def _known(self) -> set[str]:
        """The messages in the file. A line that a kill has torn is removed from it."""
        return {line["message"] for line in keep_lines(self._file, lambda line: isinstance(line["message"], str))}

    def report(self, step: int, messages: Sequence[str]) -> None:
        """Print and write what is new in ``messages``; ``step`` is how many steps the run has trained."""
        for message in dict.fromkeys(messages):
            if message not in self._known:
                append_line(self._file, {"step": step, "message": message})
                self._known.add(message)
                print_line(f"NOTICE: skipped: {message}")

    def summary(self) -> str | None:
        """How many there are and where they are listed; None when there are none."""
        count = len(self._known)
        return f"pairs that could not be used and were skipped: {count}, listed in {self._file}" if count else None
