"""Progress of long work: a bar with rate and time left on a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_bars: list[Progress] = []
"""The bars on the terminal; the last one is drawn."""
PLAIN_LINE_EVERY_SECONDS = 10.0
BAR_WIDTH = 16


class Progress:
    """Shows how far some work has come, on stderr.

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

    def __enter__(self) -> Self:
        self._began = self._last_line = time.monotonic()
        if self.shown and sys.stderr.isatty():
            self._bar = _terminal_bar()
            self._task = self._bar.add_task(self.title, total=1.0, figures="")
            self._bar.start()
            _bars.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            _bars.remove(self)
        elif self.shown and self.done > self.start:
            self._line()

    def advance(self, amount: float = 1, note: str = "", fraction: float | None = None) -> None:
        """Count ``amount`` more units as done; ``note`` stays behind the figures until the next one."""
        self.done += amount
        self.note = note or self.note
        self._fraction = fraction
        if self._bar is not None:
            figures = self.figures()
            room = max(0, self._bar.console.width - BAR_WIDTH - len(self.title) - len(figures) - 4)
            self._bar.update(self._task, completed=self.fraction or 0.0, figures=f"{figures}  {self.note[:room]}")
        elif self.shown and time.monotonic() - self._last_line >= PLAIN_LINE_EVERY_SECONDS:
            self._line()

    def say(self, message: str) -> None:
        """Print ``message`` on a line of its own without tearing the bar."""
        if self._bar is not None:
            self._bar.console.print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            _print(message)

    @property
    def fraction(self) -> float | None:
        """How much of the work is done, 0 to 1; None when the total is unknown."""
        if self._fraction is not None:
            return min(1.0, self._fraction)
        return min(1.0, self.done / self.total) if self.total else None

    def figures(self) -> str:
        """Count, rate and time left, as one line of text."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = (self.done - self.start) / elapsed
        total = f"/{_amount(self.total, self.unit)}" if self.total else ""
        parts = [f"{_amount(self.done, self.unit)}{total}", f"{_rate(rate, self.unit)}"]
        left = self._seconds_left(elapsed)
        if left is not None:
            parts.append(f"{clock(left)} left")
        return "  ".join(parts)

    def _seconds_left(self, elapsed: float) -> float | None:
        now = self.fraction
        if now is None or now <= self._start_fraction:
            return None
        return elapsed * (1.0 - now) / (now - self._start_fraction)

    def _line(self) -> None:
        self._last_line = time.monotonic()
        self.say(f"{self.title}: {self.figures()}  {self.note}".rstrip())


def say(message: str) -> None:
    """Print ``message`` on stderr, on a line of its own, without tearing a bar that is shown there."""
    if _bars:
        _bars[-1].say(message)
    else:
        _print(message)


def _print(message: str) -> None:
    with suppress(OSError):  # nobody listens, or where it goes is full; the work goes on
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - the plain form of the bar


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _amount(value: float, unit: str) -> str:
    return f"{value / 1e6:.1f} MB" if unit == "B" else f"{value:.0f}"


def _rate(rate: float, unit: str) -> str:
    if unit == "B":
        return f"{rate / 1e6:.1f} MB/s"
    return f"{rate:.2f} {unit}/s" if rate < 100 else f"{rate:.0f} {unit}/s"


def _terminal_bar() -> RichProgress:
    # rich costs a tenth of a second to import, which `--help` must not pay
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"), BarColumn(BAR_WIDTH), TextColumn("{task.fields[figures]}", markup=False),
        console=Console(stderr=True), refresh_per_second=5,
    )  # fmt: skip
