"""What each output was made with: a line in a hidden file beside it, so that nothing is guessed from its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from p2pkit import __version__
from p2pkit.images.outputs import SIDECAR, digest, is_output, records_in
from p2pkit.utils.atomic import os_errors_described
from p2pkit.utils.jsonl import append_line


class Records:
    """The lines of the folders that are asked about, each folder read once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Mapping[str, Any]]] = {}
        self._lock = Lock()

    def of(self, output: Path) -> Mapping[str, Any] | None:
        """The last line on a file; None if there is none."""
        if output.parent not in self._folders:
            self._folders[output.parent] = records_in(output.parent)
        return self._folders[output.parent].get(output.name)

    def difference(self, output: Path, made_with: Mapping[str, Any]) -> str | None:
        """How a file that is there differs from what would be written, in a few words; empty if it does not.

        None where it is somebody else's: it is not known here, or has been changed since it was written.
        """
        line = self.of(output)
        if not output.stat().st_size:
            return "of zero bytes"
        if line is None or ("bytes" in line and not is_output(output, line)):
            return None
        if "bytes" not in line:
            return "not finished"
        if line.get("model") != made_with["model"]:
            return "of another model"
        if line.get("options") != made_with["options"]:
            return "with other options"
        own, theirs = made_with["source"], line.get("source")
        if own == theirs:
            return ""
        names = [source.get("path", source.get("key")) for source in (own, theirs) if isinstance(source, Mapping)]
        return "of a source that has changed" if len(names) == 2 and names[0] == names[1] else "of another source"

    def begin(self, output: Path) -> None:
        """Record that an output is about to be written: one that a kill leaves behind is then known as ours.

        Raises:
            WriteError: its folder cannot be written to.
        """
        with os_errors_described(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            self._append(output, {"name": output.name})

    def done(self, output: Path, made_with: Mapping[str, Any]) -> None:
        """Record what an output, which is written, was made with."""
        with os_errors_described(output):
            content = {"bytes": output.stat().st_size, "sha256": digest(output)}
            self._append(output, {"name": output.name, **content, **made_with, "p2pkit": __version__})

    def _append(self, output: Path, line: Mapping[str, Any]) -> None:
        with self._lock:  # outputs are written in threads
            append_line(output.parent / SIDECAR, line)
