"""What goes wrong, as the message to print; the exit codes are those of p2pkit.errors."""

from __future__ import annotations

import io
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from p2pkit.errors import P2PKitError, exit_code_of, first_line, is_out_of_memory


class OutOfMemory(P2PKitError):  # noqa: N818 - named for what it says
    """Memory has run out, and what helps depends on the command."""


@contextmanager
def memory_advised(advice: str) -> Iterator[None]:
    """Have whatever runs out of memory in the body end with what helps there."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory ({first_line(error)}). {advice}") from error


def failure(error: BaseException) -> tuple[str, int]:
    """The message and the exit code for whatever a command has raised."""
    if isinstance(error, click.NoSuchOption):
        error = _of_the_program(error) or error
    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(file=shown)
        usage, _, said = f"\n{shown.getvalue().strip()}".partition("\nError: ")
        return f"Error: {said}{usage.rstrip()}", 2
    if isinstance(error, click.Abort):
        # click makes one of every KeyboardInterrupt, of those that say how to resume too
        error = error.__cause__ or KeyboardInterrupt()
    code = exit_code_of(error)
    if isinstance(error, P2PKitError):
        return (f"Error: {error}" if code == 2 else str(error)), code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", code
    if isinstance(error, OSError):
        # no file name: what is printed cannot be written, to a full disk for one
        if isinstance(error, FileNotFoundError) and error.filename is None:  # what asks for that names no file
            return "Error: the folder that this command was started in is not there any more; change to another", code
        where = error.filename or "the output of this command"
        return f"Error: {where}: {error.strerror or error}", code
    if is_out_of_memory(error):
        advice = 'Lower loader.batch_size, transform.crop_size or a width, or set train.precision = "bf16"'
        return f"Error: out of memory ({first_line(error)}). {advice}", code
    ours = "This is a fault of p2pkit or of a plugin, not yours; please report it with these lines:\n"
    return ours + "".join(traceback.format_exception(error)).rstrip("\n"), code


def _of_the_program(error: click.NoSuchOption) -> click.UsageError | None:
    """Where an option stands that no command has, but the program itself; None for one that it does not have."""
    root = error.ctx.find_root() if error.ctx else None
    for option in root.command.params if root and root is not error.ctx else ():
        if error.ctx and error.option_name in option.opts:
            program, _, command = error.ctx.command_path.partition(" ")
            call = f"{program} {error.option_name} {option.metavar} {command}"
            return click.UsageError(f"{error.option_name} stands before the command: {call}", error.ctx)
    return None
