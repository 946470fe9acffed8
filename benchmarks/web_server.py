"""``p2pkit serve`` in a process of its own, for the benchmarks of the page and of the API."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parent.parent


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server of the model that ships, and its process."""
    plugin = str(REPOSITORY / "plugins" / "p2pkit-web")
    command = [sys.executable, "-m", "p2pkit", "--plugins-dir", plugin, "serve", "p2pkit:quickstart", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    address = next((found[0] for line in process.stderr if (found := re.search(r"http://\S+", line))), None)
    if address is None:
        raise SystemExit(f"p2pkit serve ended with {process.wait()}")
    try:
        yield address, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def load() -> str:
    """How busy the machine is beside this, in words."""
    return f"{psutil.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before"
