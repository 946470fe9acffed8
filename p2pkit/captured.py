"""Keeps the standard output for results: what other people's code prints meanwhile is collected instead."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from tempfile import TemporaryFile
from typing import IO, TextIO

STDOUT = 1
"""The standard output's file descriptor."""


@contextmanager
def captured_stdout() -> Iterator[list[str]]:
    """Collect in the list that is given, once the body has ended, the lines that it has printed.

    What libraries in C and child processes write is among them. Results go on to where they went, whatever the body
    has put in the place of ``sys.stdout``.
    """
    lines: list[str] = []
    by_python, by_anyone = io.StringIO(), io.BytesIO()
    with ExitStack() as stack:
        stack.callback(lambda: lines.extend(_decoded(by_anyone) + by_python.getvalue().splitlines()))
        if not _writes_to_descriptor(sys.stdout):
            # a notebook's, say. Others stay as they are, because a logger may keep hold of them
            stack.enter_context(redirect_stdout(by_python))
        with suppress(OSError):  # it is closed, so nothing can spoil it
            stack.enter_context(_descriptor_into(by_anyone))
        stack.callback(_put_back, sys.stdout)
        yield lines


@contextmanager
def _descriptor_into(collected: io.BytesIO) -> Iterator[None]:
    with TemporaryFile() as file:
        kept = os.dup(STDOUT)
        _flush()
        os.dup2(file.fileno(), STDOUT)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, STDOUT)
            os.close(kept)
            file.seek(0)
            collected.write(file.read())


def _put_back(stream: TextIO | None) -> None:
    if not _writes_to_descriptor(sys.stdout):  # a wrapper around it stays, since it closes what it wraps as it goes
        sys.stdout = stream


def _decoded(collected: io.BytesIO) -> list[str]:
    return collected.getvalue().decode(errors="replace").splitlines()


def _writes_to_descriptor(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.fileno() == STDOUT
    except (OSError, ValueError, AttributeError):
        return False


def _flush() -> None:
    for stream in filter(None, (sys.stdout, sys.__stdout__)):
        with suppress(OSError, ValueError):
            stream.flush()
