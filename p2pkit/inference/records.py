"""What each output was made with: a line in a hidden file beside it, so that nothing is guessed from its name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any

from p2pkit import __version__
from p2pkit.images.outputs import SIDECAR, digest, is_output, records_in
from p2pkit.utils.atomic import os_errors_described
from p2pkit.utils.jsonl import append_line

if sys.platform != "win32":
    import fcntl


class Records:
    """The lines of the folders that are asked about, each folder read once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Mapping[str, Any]]] = {}
        self._tidied: set[Path] = set()
        """Folders where nothing unfinished is left."""
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

    @contextmanager
    def written(self, output: Path, made_with: Mapping[str, Any]) -> Iterator[None]:
        """Record that an output is written in the body, and what it was made with once it is.

        One that a kill leaves behind is known by that as ours, and what was written of it is removed by whoever writes
        to its folder next.

        Raises:
            WriteError: its folder cannot be written to.
        """
        with os_errors_described(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if output.parent not in self._tidied:
                self._tidied.add(output.parent)
                _remove_unfinished(output.parent)
        self._append(output, {"name": output.name})
        with _locked(output.parent, exclusive=False):
            yield
        with os_errors_described(output):
            content = {"bytes": output.stat().st_size, "sha256": digest(output)}
        self._append(output, {"name": output.name, **content, **made_with, "p2pkit": __version__})

    def _append(self, output: Path, line: Mapping[str, Any]) -> None:
        with self._lock, os_errors_described(output):  # outputs are written in threads
            append_line(output.parent / SIDECAR, line)


def _remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left of outputs, unless another process is writing to the folder."""
    left = [each for each in folder.iterdir() if each.name.startswith(".") and each.name.endswith(".part")]
    if not left:
        return
    names = tuple(f".{name}." for name in records_in(folder))
    with suppress(OSError), _locked(folder, exclusive=True) as alone:
        for each in left if alone else ():
            if each.name.startswith(names):
                each.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, exclusive: bool) -> Iterator[bool]:
    """Hold the lock of a folder, which those who write there share; whether it is held, for it is not waited for.

    It is a lock of the system on the file of records, and so tells the living of other containers too, where process
    ids say nothing.
    """
    with (folder / SIDECAR).open("rb") as stream:
        yield _is_held(stream, exclusive)


def _is_held(stream: IO[bytes], exclusive: bool) -> bool:
    if sys.platform == "win32":  # where what is left over stays
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_NB | (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH))
    except OSError:  # somebody else's, or not known on this file system
        return False
    return True
