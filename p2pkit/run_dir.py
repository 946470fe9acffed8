"""The run folder: what ran, what happened, what goes on from there, and the model."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pkit.contracts import ValueRange
from p2pkit.errors import RunFolderError
from p2pkit.inference.model_file import FILE_NAME
from p2pkit.utils.atomic import is_still_at, lock, naming_failures, write_json, write_text


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by what they are for."""

    path: Path

    @classmethod
    def create(cls, out: Path | None, name: str) -> RunFolder:
        """A new folder: ``out``, or ``runs/NAME/DATE-TIME``.

        Raises:
            RunFolderError: ``out`` is there already, and is neither empty nor a run that never got to a checkpoint.
            WriteError: it cannot be made.
        """
        if out is None:
            return cls(_dated(Path("runs") / name))
        folder = cls(out)
        untrained = folder._has_run() and not folder.model.exists() and not folder.has_checkpoint  # nothing to lose
        if not untrained and out.exists() and (not out.is_dir() or any(map(_is_of_use, out.iterdir()))):
            going_on = f", or go on with the run in it: p2pkit run --resume {out}" if folder.has_checkpoint else ""
            raise RunFolderError(f"{out}: there is something in that place already; choose another --out{going_on}")
        with naming_failures(out):
            out.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of an earlier run. Raises RunFolderError when it is none."""
        folder = cls(path)
        if not folder._has_run():
            raise RunFolderError(f"{path}: this is not a run folder: it holds no recipe.toml")
        return folder

    def _has_run(self) -> bool:
        return self.recipe.is_file()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a run here, with a checkpoint to go on from."""
        return self._has_run() and any(self.checkpoints.glob("step_*"))

    @property
    def recipe(self) -> Path:
        """The resolved recipe, all defaults filled in."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """What happened, a JSON line at a time."""
        return self.path / "metrics.jsonl"

    @property
    def bad_data(self) -> Path:
        """The pairs that could not be used and were left out, a JSON line each."""
        return self.path / "bad_data.jsonl"

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / FILE_NAME

    @property
    def best_model(self) -> Path:
        """The model file of the step with the best held-out figures, where they are taken on the way."""
        return self.path / "best.safetensors"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def sample(self, step: int) -> Path:
        """The sample grid of one step."""
        return self.path / "samples" / f"step_{step:08}.png"

    def not_finite(self, step: int) -> Path:
        """The folder of a step whose loss was no finite number: its batch, and the networks as they were."""
        return self.path / "not_finite" / f"step_{step:08}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from running in this folder, for as long as this one does or lives.

        Raises:
            RunFolderError: another process is running in it.
        """
        file = self.path / ".lock"
        with naming_failures(file):
            handle = file.open("a+")
        with handle:
            if hasattr(os, "register_at_fork"):
                # a worker that outlives a killed run for a moment must not hold its lock
                os.register_at_fork(after_in_child=handle.close)
            if not lock(handle) or not is_still_at(handle, file):
                handle.seek(0)
                raise RunFolderError(f"{self.path}: {handle.read().strip() or 'another process'} is running in it")
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {platform.node()}")
            handle.flush()
            try:
                yield
            finally:
                file.unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove what a kill in the middle of writing has left under hidden names."""
        for left in list(self.path.rglob(".*.part")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def write_recipe(self, resolved: str, source: str) -> None:
        """Write the resolved recipe and the recipe as written, for a run that begins."""
        for log in (self.metrics, self.bad_data):
            log.unlink(missing_ok=True)
        write_text(self.recipe, resolved)
        write_text(self.path / "recipe.source.toml", source)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write versions, plugins, the data's fingerprint and what the data set had to say."""
        write_json(self.path / "environment.json", environment)

    def environment(self) -> dict[str, Any]:
        """What :meth:`write_environment` wrote; empty when it is not there."""
        file = self.path / "environment.json"
        if not file.is_file():
            return {}
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def ranges(self) -> dict[str, ValueRange]:
        """The ranges of values that the run began with, by side; those of the pixels' types are left out."""
        recorded = self.environment().get("data", {}).get("ranges", {})
        return {side: (low, high) for side, (low, high) in recorded.items()}


def _is_of_use(file: Path) -> bool:
    """Not so what a kill leaves before the recipe is written: the lock, and a file that is not whole."""
    return file.name != ".lock" and not (file.name.startswith(".") and file.name.endswith(".part"))


def _dated(parent: Path) -> Path:
    """A new folder in ``parent`` named after this moment; a number is added when two runs share a second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        with naming_failures(folder), suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise RunFolderError(f"{parent}: a thousand runs have begun in this second")
