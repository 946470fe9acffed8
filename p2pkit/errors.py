"""Errors that a user can mend. Each message says what is wrong, where, what was expected and what to do.

Everything here ends a command without a traceback and with exit code 2, but for classes that name another. A broken
invariant of ours is an ``assert``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

NOT_UTF_8 = frozenset(map(chr, range(0xDC80, 0xDD00)))
"""What Python makes of bytes that are not UTF-8, in arguments and names of files."""


_OUT_OF_MEMORY = re.compile(
    "OutOfMemoryError|can't allocate memory|not enough memory|out of memory|_STATUS_ALLOC_FAILED|bad_?alloc",
    re.IGNORECASE,
)
"""In the names and texts of torch's errors."""


class P2PKitError(ValueError):
    """The family of mistakes that the person at the keyboard can mend."""

    details: Mapping[str, Any] = {}
    """What ``--json`` prints beside the message: what a command has found, or done, before it was refused."""


class RecipeError(P2PKitError):
    """A recipe does not say what it must. Carries all its problems, not the first alone."""


class UnknownComponent(P2PKitError):  # noqa: N818 - the name is part of the public contract
    """No component of that kind has that name."""


class PluginError(P2PKitError):
    """A plugin cannot be loaded, or two plugins offer the same name."""


class DataError(P2PKitError):
    """A file or a folder of data is missing, unreadable or not what it should be."""


class MissingData(DataError):  # noqa: N818 - named for what it says of the data
    """All of a data set is not there. ``remedy`` says how to get it, and is empty where nobody has said.

    ``stands_in``, a contracts.SampleHeader, is what its samples would be like, where that is known.
    """

    def __init__(self, missing: str, remedy: str = "", stands_in: Any = None) -> None:
        super().__init__(f"{missing}. {remedy}" if remedy else missing)
        self.missing, self.remedy, self.stands_in = missing, remedy, stands_in

    def with_remedy(self, remedy: str | None) -> MissingData:
        """The same, with another ``remedy`` if there is one."""
        return MissingData(self.missing, remedy, self.stands_in) if remedy else self


class Unavailable(DataError):  # noqa: N818 - named for what it says of the data
    """Data that cannot be had now, although nothing is wrong with it: it must not be taken for bad data and skipped."""


class ModelFileError(P2PKitError):
    """A model file is missing, damaged, of a later version, or needs a plugin that is not installed."""


class ExportError(P2PKitError):
    """A model cannot be written in another format, or what was written does not do what the model does."""


class RunDirError(P2PKitError):
    """A run folder is taken already, or holds nothing to resume from."""


class NotFiniteError(P2PKitError):
    """A loss is not a finite number: training on would spoil the networks."""


class CallbackError(P2PKitError):
    """A callback has failed in the middle of a run."""


class ProcessLost(P2PKitError):  # noqa: N818 - no mistake of anybody's
    """Another process of the run is gone. ``exit_code`` is that process's own, or 75: resume from the checkpoint."""

    def __init__(self, message: str, exit_code: int = 75) -> None:  # EX_TEMPFAIL of sysexits.h
        super().__init__(message)
        self.exit_code = exit_code


class WriteError(P2PKitError):
    """A file cannot be written: the disk is full, or writing there is not allowed."""


def listed(messages: Sequence[str], shown: int) -> str:
    """The first ``shown`` of ``messages``, each on a line of its own after what is said of them, and how many more."""
    more = [f"and {len(messages) - shown} more"] if len(messages) > shown else []
    return "".join(f"\n  {visible(message)}" for message in (*messages[:shown], *more))


def counted(count: int, noun: str) -> str:
    """A number and what it counts: "1 channel", "3 channels"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def visible(text: str) -> str:
    """``text`` on one line, with all that no terminal should obey escaped; file names may hold it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for a misspelt ``name``, or an empty string when nothing is close."""
    matches = get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def in_one_line(error: BaseException) -> str:
    """The type of an error and all that it says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def reason(error: BaseException) -> str:
    """Why something has failed: a message for users as it is, and of any other error the type and all that it says."""
    return str(error) if isinstance(error, P2PKitError) else in_one_line(error)


def shortened(error: BaseException, most: int = 2000) -> str:
    """:func:`reason` on as many lines, of ``most`` characters at most, for errors that show names out of files."""
    text = reason(error)
    return "\n".join(map(visible, text[:most].splitlines())) + (" ..." if len(text) > most else "")


def first_line(error: BaseException) -> str:
    """The first line of what an error says, for libraries that say much."""
    return str(error).strip().partition("\n")[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, that of a GPU or the machine's."""
    # by name and text, because torch, which defines the one and raises the other, must not be imported here
    by_torch = isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(f"{type(error).__name__} {error}")
    return isinstance(error, MemoryError) or bool(by_torch)


def exit_code_of(error: BaseException) -> int:
    """The exit code for what has ended a command: 2 for a user's mistake, 1 for a fault of the program."""
    if isinstance(error, P2PKitError):
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, OSError) or is_out_of_memory(error) else 1
