"""One plugin: who brings it, and its code run so that what it raises, prints and takes stays its own."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pluggy

from p2pkit import hookspecs
from p2pkit.captured import captured_stdout
from p2pkit.errors import did_you_mean, listed, visible
from p2pkit.utils.processes import labelled
from p2pkit.version import __version__

SLOW_SECONDS = 1.0
"""What a plugin may take at every start before p2pkit says whose time it is."""
SLOW_HOOK_SECONDS = 10.0
"""What a hook that offers components may take before p2pkit says whose time it is."""
HEAVY = ("torch", "tensorflow", "jax", "transformers")
"""Libraries that take seconds to import."""
LINES_SHOWN, LINE_SHOWN = 5, 200
"""How much of what a plugin prints is shown: lines, and characters of each."""
LINES_KEPT = 20


@dataclass
class Plugin:
    """One entry point: who brings it, which hooks it implements, what is wrong with it, and what it does to a start."""

    name: str
    distribution: str
    version: str
    module: str
    wants: str = ""
    """The versions of p2pkit that its distribution asks for, such as ">=0.2"."""
    hooks: list[str] = field(default_factory=list)
    problem: str | None = None
    seconds: float = 0.0
    """What it has taken at this start: its import, and its hooks that add commands."""
    imports: list[str] = field(default_factory=list)
    """Libraries that take long to import, and that it was the first to import while it was loaded."""
    printed: list[str] = field(default_factory=list)
    """The first lines that it has printed, clipped, which are kept from the standard output."""

    @property
    def origin(self) -> str:
        """Name, distribution and version, as messages show them."""
        return f"{self.name} ({self.distribution} {self.version})"

    @property
    def slowness(self) -> str:
        """How long it takes at every start, and what its authors can do; empty when that is no matter."""
        if self.seconds < SLOW_SECONDS and not self.imports:
            return ""
        why = f", importing {', '.join(self.imports)}" if self.imports else ""
        return (
            f"it takes {self.seconds:.1f} s at every start{why}; its authors should import what is heavy inside hooks"
        )

    def run(self, call: Callable[[], Any], at_start: bool = False) -> Any:
        """The result of ``call``; whatever a plugin raises becomes its problem, gives None and stops nobody else.

        ``at_start`` says that every start of the program makes this call.

        Raises:
            KeyboardInterrupt: the person has pressed Ctrl-C.
        """
        before, began = set(sys.modules), time.perf_counter()
        try:
            with _ctrl_c_told() as pressed, _folder_kept(), captured_stdout() as printed:
                return call()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and pressed:
                _tell(f"interrupted while the plugin {self.origin} was at work; --no-plugin {self.name} leaves it out")
                raise
            self.problem = self._reason(error)
            return None
        finally:
            self._tell_printed(printed)
            imports = [name for name in HEAVY if name in sys.modules and name not in before]
            self._account(time.perf_counter() - began, imports, at_start)

    def _tell_printed(self, printed: list[str]) -> None:
        if printed:
            self.printed = [*self.printed, *(line[:LINE_SHOWN] for line in printed)][:LINES_KEPT]
            shown = listed([visible(line[:LINE_SHOWN]) for line in printed], LINES_SHOWN)
            _tell(f"Note: the plugin {self.origin} prints, which is kept out of results:{shown}")

    def _account(self, seconds: float, imports: list[str], at_start: bool) -> None:
        if at_start:
            self.seconds = round(self.seconds + seconds, 3)
            self.imports += imports
        elif seconds >= SLOW_HOOK_SECONDS and not imports:  # whoever asks first for PyTorch waits for it
            _tell(f"Note: the plugin {self.origin} has taken {seconds:.0f} s to offer its components; tell its authors")

    def _reason(self, error: BaseException) -> str:
        both = f"pip install --upgrade p2pkit {self.distribution}"
        other_version = f"if it was written for another version than p2pkit {__version__}: {both}"
        said = visible(" ".join(f"{type(error).__name__}: {error}".split()))
        if isinstance(error, pluggy.PluginValidationError):
            unknown = re.search(r"unknown hook '(\w+)'", str(error))
            if unknown is None:
                return f"{said}; {other_version}"
            hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
            guess = did_you_mean(unknown[1], hooks)
            return f"p2pkit {__version__} has no hook {unknown[1]!r}{guess}; {other_version}"
        module = getattr(error, "name", None) if isinstance(error, ImportError) else None
        if module and module.partition(".")[0] == hookspecs.PROJECT:
            return f"{said}; {other_version}"
        if isinstance(error, ModuleNotFoundError):
            return f"{said}; if it is a library that the plugin needs: pip install {self.distribution}"
        return f"{said}; tell its authors"


@contextmanager
def _ctrl_c_told() -> Iterator[list[int]]:
    """Note in the list that is given when Ctrl-C is pressed: a plugin may raise KeyboardInterrupt by itself."""
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield [signal.SIGINT]  # somebody else listens: take every interruption for theirs
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _folder_kept() -> Iterator[None]:
    """Go back to the working directory, from which the paths of the command line are meant."""
    try:
        folder = os.open(".", os.O_RDONLY)
    except OSError:  # nobody may read it
        yield
        return
    try:
        yield
    finally:
        os.fchdir(folder)
        os.close(folder)


def _tell(message: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # nobody listens; the work goes on
        sys.stderr.write(f"{labelled(message)}\n")
