"""What people see of long work: progress on a terminal, in a notebook or as plain lines; messages on stderr."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

from p2pkit.errors import visible

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""What a terminal obeys, what turns the order of letters on it or is not seen there, and what no encoding has."""
_shown: list[Progress] = []
"""Those on the terminal, where they share one line; the last one has it."""
PLAIN_LINE_EVERY_SECONDS = 10.0
BRIEF_SECONDS = 1.0
"""Of work that took no longer, no rate is printed."""
NOTEBOOK_EVERY_SECONDS = 0.5
SHORTEST_BAR, LONGEST_BAR = "━" * 4, "━" * 16
ROOM_FOR_ECHO = len("^C")
"""Columns that stay free behind the line, which would wrap by what a terminal shows of Ctrl-C, and then be torn."""


class Progress:
    """Shows how far some work has come, on stderr, or in the output of a notebook's cell.

    ``total`` is the number of ``unit``s to come (None when unknown); ``start`` of them are done already. A total in
    ``unit="B"`` is shown as a size. ``fraction`` in :meth:`advance` overrides done/total where something else than the
    count ends the work (a time limit, say); ``start_fraction`` is where that stood at the start. ``later`` are the
    seconds that work behind this will take, a part of the time left; it may be set at any time. Only ``shown`` progress
    prints anything: one of several processes is enough. Where plain lines are printed, ``brief`` work has none unless
    it takes long.
    """

    def __init__(
        self, title: str, total: float | None, unit: str, start: float = 0,
        start_fraction: float | None = None, shown: bool = True, later: float = 0.0, brief: bool = False,
    ) -> None:  # fmt: skip
        self.title, self.total, self.unit, self.shown, self.later = harmless(title), total, unit, shown, later
        self.done, self.start, self._brief = start, start, brief
        self._start_fraction = start / total if start_fraction is None and total else start_fraction or 0.0
        self.notes: Sequence[str] = ()
        self._fraction: float | None = None
        self._live: Live | None = None
        self._cell: Any = None

    def __enter__(self) -> Self:
        self._began = self._advanced = self._last_line = time.monotonic()
        self._done_in_last_line = self.start
        if self.shown and sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            outer = _shown[-1]._live if _shown else None
            _shown.append(self)
            self._live = outer or _live_line()
            self._live.refresh()
        # other libraries import ipykernel too: a notebook is where it runs
        elif self.shown and "ipykernel" in sys.modules and import_module("IPython").get_ipython() is not None:
            display: Any = import_module("IPython.display").display
            self._cell = display({"text/plain": f"{self.title} ..."}, raw=True, display_id=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            if len(_shown) == 1:
                self._live.stop()  # the line is drawn once more, and stays
            _shown.remove(self)
            if _shown:
                self._live.refresh()
        elif self._brief and self._cell is None and self._done_in_last_line == self.start:
            pass
        elif self.shown and self.done > self._done_in_last_line:
            if (
                self._cell is None
                and self.unit != "B"
                and not self.notes
                and self._advanced - self._began < BRIEF_SECONDS
            ):
                print_line(f"{self.title}: {self.done:.0f}{f'/{self.total:.0f}' if self.total else ''} {self.unit}s")
            else:
                self._show_line()

    def advance(self, amount: float = 1, notes: Sequence[str] = (), fraction: float | None = None) -> None:
        """Count ``amount`` more units as done; ``notes``, the most telling first, stay until there are others."""
        self.done += amount
        self.notes = notes or self.notes
        self._fraction, self._advanced = fraction, time.monotonic()
        if self._live is not None:  # it draws itself, a few times a second
            return
        every = PLAIN_LINE_EVERY_SECONDS if self._cell is None else NOTEBOOK_EVERY_SECONDS
        if self.shown and self._advanced - self._last_line >= every:
            self._show_line()

    @property
    def fraction(self) -> float | None:
        """How much of the work is done, 0 to 1; None when the total is unknown."""
        if self._fraction is not None:
            return min(1.0, self._fraction)
        return min(1.0, self.done / self.total) if self.total else None

    def summary(self) -> str:
        """Count, rate, time left and notes, as one line of text."""
        count, _, rate, left = self._figures()
        return harmless("  ".join(filter(None, (count, rate, left, *self.notes))))

    def line(self, width: int) -> str:
        """What fits of title, bar and :meth:`summary` into ``width`` columns; a number is there whole or not at all.

        Room goes to the count and the title, then to the time left, the first note, the bar, the rate, the other
        notes, a longer bar, and the rate's unit.
        """
        count, short_rate, rate, left = self._figures()
        title = shortened(self.title, max(8, min(max(24, width // 2), width - len(count) - len(left) - 3)))
        if len(f"{title} {count}") > width:
            title = ""
        items = {"title": title, "bar": "", "count": count, "rate": "", "left": "", **dict.fromkeys(self.notes, "")}
        notes = [(note, note) for note in self.notes]
        wishes = [("left", left), *notes[:1], ("bar", SHORTEST_BAR), ("rate", short_rate), *notes[1:]]
        wishes += [("bar", LONGEST_BAR[:length]) for length in range(len(SHORTEST_BAR), len(LONGEST_BAR) + 1)]
        for name, text in (*wishes, ("rate", rate)):
            wider = items | {name: text}
            if len(_joined(wider)) <= width:
                items = wider
        return _joined(items)

    def _figures(self) -> tuple[str, str, str, str]:
        """Count, rate, rate with its unit, and time left; the last three are empty where they are unknown."""
        done, total = f"{self.done:.0f}", f"/{self.total:.0f}" if self.total else ""
        if self.unit == "B":
            done, total = f"{self.done / 1e6:.1f} MB", f"/{self.total / 1e6:.1f} MB" if self.total else ""
        if self.done <= self.start:
            return f"{done}{total}", "", "", ""
        # up to the last advance, since a step that takes long would seem to slow down what is done
        elapsed, now = max(self._advanced - self._began, 1e-9), self.fraction
        per_second, left = (self.done - self.start) / elapsed, ""
        rate = f"{per_second / 1e6:.1f} MB/s" if self.unit == "B" else f"{three_digits(per_second)} {self.unit}/s"
        if now is not None and now > self._start_fraction:
            seconds = elapsed * (1.0 - now) / (now - self._start_fraction) + self.later
            left = f"{clock(seconds)} left"
        return f"{done}{total}", rate.replace(f" {self.unit}/s", "/s"), rate, left

    def _show_line(self) -> None:
        self._last_line, self._done_in_last_line = time.monotonic(), self.done
        line = f"{self.title}: {self.summary()}"
        if self._cell is not None:
            self._cell.update({"text/plain": line}, raw=True)
        else:
            print_line(line)


def print_line(message: str, label: bool = False) -> None:
    """Print ``message`` on stderr, on a line of its own, without tearing a bar that is shown there.

    It may have names of files, and what others say, as they are: nothing in it controls the terminal, and none of its
    lines but the first stands at the margin, where a name that has line ends might say what is an error, or done. With
    a ``label`` each line says which process has printed it.
    """
    message = harmless(message, hanging=True)
    if label:
        message = labelled(message)
    if _shown and (live := _shown[-1]._live) is not None:
        live.console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)
        return
    if sys.stderr is None:  # it is closed
        return
    with suppress(OSError):  # nobody listens, or where it goes is full; the work continues
        try:
            print(message, file=sys.stderr, flush=True)  # noqa: T201 - the plain form of the bar
        except UnicodeEncodeError:  # a name of a file that is not UTF-8, where stderr is not Python's own
            print(message.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)  # noqa: T201


@dataclass(eq=False)
class HarmlessStream:
    """A stream that passes text on with all escaped that a terminal would obey; all else is as the stream has it.

    What a terminal shall obey is written to :func:`unfiltered`.
    """

    stream: TextIO

    def write(self, text: str) -> int:
        """Pass ``text`` on; a carriage return, by which a line is written over, becomes the end of a line."""
        self.stream.write(harmless(text.replace("\r\n", "\n").replace("\r", "\n")))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Pass all lines on."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer" and self.stream.encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968"):
            raise AttributeError(name)  # click would take that for a mistake, and write past this one
        return getattr(self.stream, name)


def unfiltered(stream: Any) -> Any:
    """The stream behind a :class:`HarmlessStream`."""
    return stream.stream if isinstance(stream, HarmlessStream) else stream


def harmless(text: str, hanging: bool = False) -> str:
    """``text`` with all escaped that no terminal should obey, but for tabs and ends of lines.

    ``hanging``: with its lines indented, all but the first.
    """
    if not text.isprintable():
        text = _CONTROLS.sub(lambda found: visible(found[0]), text)
    return re.sub(r"\n(?=\S)", "\n  ", text) if hanging else text


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


def three_digits(value: float) -> str:
    """A number in about three digits, as a person reads it: 0.0069, 0.69, 6.90, 69.0, 690, 6900."""
    size = abs(value)
    if not 0.0995 <= size < 99999.5:
        return f"{value:.2g}"
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def shortened(text: str, size: int) -> str:
    """``text`` in at most ``size`` characters, at least 3; what is too much is cut out of its middle."""
    if len(text) <= size:
        return text
    return f"{text[: size // 2]}…{text[len(text) - (size - 1) // 2 :]}"


def _joined(items: Mapping[str, str]) -> str:
    title, bar, *others = items.values()
    return " ".join(filter(None, (title, bar, "  ".join(filter(None, others)))))


def _live_line() -> Live:
    # rich costs a tenth of a second to import, which `--help` must not pay
    from rich.console import Console
    from rich.live import Live

    console, before = Console(file=unfiltered(sys.stderr)), (sys.stdout, sys.stderr)
    live = Live(console=console, refresh_per_second=5, get_renderable=lambda: _styled(console.width - ROOM_FOR_ECHO))
    live.start()
    if (sys.stdout, sys.stderr) != before:  # until it stops they are its own, and obey
        sys.stdout, sys.stderr = (cast(TextIO, each and HarmlessStream(each)) for each in (sys.stdout, sys.stderr))
    console.show_cursor()  # whatever ends the process now leaves a cursor behind
    return live


def _styled(width: int) -> Text:
    from rich.text import Text

    progress = _shown[-1]
    text = Text(harmless(progress.line(width)), no_wrap=True, overflow="crop")
    bar = text.plain.count(LONGEST_BAR[0])
    begin, full = text.plain.find(LONGEST_BAR[0]), round(bar * (progress.fraction or 0.0))
    text.stylize("bar.finished" if full == bar else "bar.complete", begin, begin + full)
    text.stylize("bar.back", begin + full, begin + bar)
    return text
