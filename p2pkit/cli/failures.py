"""What goes wrong, as the message to print and the exit code to end with."""

from __future__ import annotations

import io
import traceback
from dataclasses import dataclass

import click

from p2pkit.cli.options import say
from p2pkit.errors import P2PKitError, first_line
from p2pkit.utils.processes import labelled

USERS_MISTAKE, OUR_FAULT, INTERRUPTED = 2, 1, 130


@dataclass(frozen=True)
class Failure:
    """How a command ends that cannot be done."""

    message: str
    code: int
    summary: str = ""
    """One line for the other processes of a run; the first of the message where nothing else is said."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "summary", self.summary or self.message.partition("\n")[0].removeprefix("Error: "))


def failure(error: BaseException) -> Failure:
    """The message and the exit code for whatever a command has raised."""
    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(file=shown)
        return Failure(shown.getvalue().rstrip("\n"), USERS_MISTAKE)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Failure("interrupted", INTERRUPTED)
    if isinstance(error, P2PKitError):
        code = int(getattr(error, "exit_code", USERS_MISTAKE))
        return Failure(str(error) if code != USERS_MISTAKE else f"Error: {error}", code)
    if isinstance(error, OSError):
        # no file name: what is printed cannot be written, to a full disk for one
        where = error.filename or "the output of this command"
        return Failure(f"Error: {where}: {error.strerror or error}", USERS_MISTAKE)
    if _out_of_memory(error):
        return Failure(
            f"Error: the memory does not suffice ({first_line(error)}). Lower loader.batch_size, "
            'transform.crop_size or a width, or set train.precision = "bf16"',
            USERS_MISTAKE,
        )
    told = "".join(traceback.format_exception(error))
    ours = "This is a fault of p2pkit or of a plugin, not yours; please report it with the lines above."
    return Failure(told + ours, OUR_FAULT, f"{type(error).__name__}: {error}".splitlines()[0])


def complain(message: str) -> None:
    """Print what went wrong, with the process it went wrong in where there are several."""
    say(labelled(message))


def _out_of_memory(error: BaseException) -> bool:
    # by name and text, because torch, which defines the one and raises the other, must not be imported here
    by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or by_torch
