"""What people see of long work: progress on a terminal, in a notebook or as plain lines; messages on stderr."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_bars: list[Progress] = []
"""The bars on the terminal; the last one is drawn."""
PLAIN_LINE_EVERY_SECONDS = 10.0
NOTEBOOK_EVERY_SECONDS = 0.5
BAR_WIDTH = 16


class Progress:
    """Shows how far some work has come, on stderr, or in the output of a notebook's cell.

    ``total`` is the number of ``unit``s to come (None when unknown); ``start`` of them are done already. A total in
    ``unit="B"`` is shown as a size. ``fraction`` in :meth:`advance` overrides done/total where something else than the
    count ends the work (a time limit, say); ``start_fraction`` is where that stood at the start. Only ``shown``
    progress prints anything: one of several processes is enough.
    """

    def __init__(
        self, title: str, total: float | None, unit: str, start: float = 0,
        start_fraction: float | None = None, shown: bool = True,
    ) -> None:  # fmt: skip
        self.title, self.total, self.unit, self.shown = title, total, unit, shown
        self.done = self.start = start
        self._start_fraction = start / total if start_fraction is None and total else start_fraction or 0.0
        self.note = ""
        self._fraction: float | None = None
        self._bar: RichProgress | None = None
        self._cell: Any = None

    def __enter__(self) -> Self:
        self._began = self._last_line = time.monotonic()
        if self.shown and sys.stderr is not None and sys.stderr.isatty():
            self._bar = _terminal_bar()
            self._task = self._bar.add_task(self.title, total=1.0, summary="")
            self._bar.start()
            _bars.append(self)
        # other libraries import ipykernel too: a notebook is where it runs
        elif self.shown and "ipykernel" in sys.modules and import_module("IPython").get_ipython() is not None:
            display: Any = import_module("IPython.display").display
            self._cell = display({"text/plain": f"{self.title} ..."}, raw=True, display_id=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            _bars.remove(self)
        elif self.shown and self.done > self.start:
            self._show_line()

    def advance(self, amount: float = 1, note: str = "", fraction: float | None = None) -> None:
        """Count ``amount`` more units as done; ``note`` stays behind the count until the next one."""
        self.done += amount
        self.note = note or self.note
        self._fraction = fraction
        if self._bar is not None:
            summary = self.summary()
            room = max(0, self._bar.console.width - BAR_WIDTH - len(self.title) - len(summary) - 4)
            self._bar.update(self._task, completed=self.fraction or 0.0, summary=f"{summary}  {self.note[:room]}")
            return
        every = PLAIN_LINE_EVERY_SECONDS if self._cell is None else NOTEBOOK_EVERY_SECONDS
        if self.shown and time.monotonic() - self._last_line >= every:
            self._show_line()

    @property
    def fraction(self) -> float | None:
        """How much of the work is done, 0 to 1; None when the total is unknown."""
        if self._fraction is not None:
            return min(1.0, self._fraction)
        return min(1.0, self.done / self.total) if self.total else None

    def summary(self) -> str:
        """Count, rate and time left, as one line of text."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate, now = (self.done - self.start) / elapsed, self.fraction
        done, total = f"{self.done:.0f}", f"/{self.total:.0f}" if self.total else ""
        per_second = f"{rate:.{2 if rate < 100 else 0}f} {self.unit}/s"
        if self.unit == "B":
            done, total = f"{self.done / 1e6:.1f} MB", f"/{self.total / 1e6:.1f} MB" if self.total else ""
            per_second = f"{rate / 1e6:.1f} MB/s"
        parts = [f"{done}{total}", per_second]
        if now is not None and now > self._start_fraction:
            parts.append(f"{clock(elapsed * (1.0 - now) / (now - self._start_fraction))} left")
        return "  ".join(parts)

    def _show_line(self) -> None:
        self._last_line = time.monotonic()
        line = f"{self.title}: {self.summary()}  {self.note}".rstrip()
        if self._cell is not None:
            self._cell.update({"text/plain": line}, raw=True)
        else:
            print_line(line)


def print_line(message: str) -> None:
    """Print ``message`` on stderr, on a line of its own, without tearing a bar that is shown there."""
    if _bars and (bar := _bars[-1]._bar) is not None:
        bar.console.print(message, markup=False, highlight=False, soft_wrap=True)
        return
    if sys.stderr is None:  # it is closed
        return
    with suppress(OSError):  # nobody listens, or where it goes is full; the work continues
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - the plain form of the bar


def process_count() -> int:
    """The number of processes of this run, as the launcher gives it; 1 without a launcher."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdecimal() else 1


def is_main_process() -> bool:
    """Whether this is the main process, the one that writes and prints results."""
    return os.environ.get("RANK", "0") == "0"


def labelled(message: str) -> str:
    """``message`` with the process and the host in front of every line, where there is more than one process."""
    if process_count() == 1:
        return message
    # every line, because what several processes print at once gets mixed
    label = f"[process {os.environ.get('RANK', '0')} of {process_count()} on {platform.node()}]"
    return "\n".join(f"{label} {line}".rstrip() for line in message.splitlines())


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _terminal_bar() -> RichProgress:
    # rich costs a tenth of a second to import, which `--help` must not pay
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"), BarColumn(BAR_WIDTH), TextColumn("{task.fields[summary]}", markup=False),
        console=Console(stderr=True), refresh_per_second=5,
    )  # fmt: skip
