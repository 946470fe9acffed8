"""The run folder: what ran, what happened, the checkpoints to resume from, and the model."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from p2pkit.contracts import ValueRange
from p2pkit.errors import NOT_UTF_8, P2PKitError, RunDirError, visible
from p2pkit.inference.model_file import FILE_NAME, RECIPE, newest_run
from p2pkit.run_records import Environment, Measured, read_record
from p2pkit.utils.atomic import UNFINISHED, is_locked, os_errors_described, remove_unfinished, write_json, write_text
from p2pkit.utils.jsonl import append_line
from p2pkit.utils.opening import folders_in, read_regular

ENVIRONMENT = "environment.json"
LOCK = ".lock"
GRID = "p2pkit.grid"
"""The text in a grid of samples (PNG) that says in JSON whose images stand where, and numbers on the outputs."""

LIBRARIES = ("torch", "torchvision", "accelerate", "timm", "safetensors", "numpy", "pillow", "tifffile")
"""Those whose versions a start of a run records."""
AN_OLD_FILE = 60
"""Seconds after which a file that safetensors has left is nobody's who is writing it."""
_OF_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")
EXACTNESS = (
    "device", "gpus", "cuda", "gpu_driver", "processor", "cpu_capability", "threads", "processes", "python",
    "libraries", "plugin_code", "p2pkit_commit", "compiled", "tf32",
)  # fmt: skip
"""What :func:`this_start` says that bytes depend on."""


@dataclass(eq=False)
class RunDir:
    """The files of one run, by what they are for."""

    path: Path
    recipe: Path = field(init=False)
    """The resolved recipe, all defaults filled in."""
    metrics: Path = field(init=False)
    """What happened, a JSON line at a time."""
    validation: Path = field(init=False)
    """What the last metrics are of: the set, the number and size of its images, hashes of weights."""
    validation_pictures: Path = field(init=False)
    """The best and the worst images of the last metrics, a grid."""
    status: Path = field(init=False)
    """How far the run is, what it takes of time and memory, and how it has ended."""
    report: Path = field(init=False)
    """The page on the run."""
    bad_data: Path = field(init=False)
    """The skipped log: pairs that could not be used, a JSON line each."""
    checkpoints: Path = field(init=False)
    """The folder of the checkpoints."""
    model: Path = field(init=False)
    """The model file."""
    best_model: Path = field(init=False)
    """The model file of the step with the best validation metrics, where they are taken while training."""

    def __post_init__(self) -> None:
        if set(str(self.path)) & NOT_UTF_8:
            found = "the path of a run folder must be in UTF-8: no checkpoint and no model can be read from others"
            raise RunDirError(f"{self.path}: {found}; choose another name")
        self.recipe, self.metrics = self.path / RECIPE, self.path / "metrics.jsonl"
        self.bad_data, self.checkpoints = self.path / "bad_data.jsonl", self.path / "checkpoints"
        self.validation, self.validation_pictures = self.path / "validation.json", self.path / "validation.png"
        self.status, self.report = self.path / "status.json", self.path / "report.html"
        self.model, self.best_model = self.path / FILE_NAME, self.path / "best.safetensors"

    @classmethod
    def create(cls, out: Path | None, name: str) -> RunDir:
        """A new folder: ``out``, or ``runs/NAME/DATE-TIME``.

        Raises:
            RunDirError: ``out`` is there already, and is neither empty nor a run that never got to a checkpoint.
            WriteError: it cannot be made.
        """
        if out is None:
            return cls(_dated(Path("runs") / name))
        folder = cls(out)
        begun = False
        with suppress(RunDirError):  # files of these names alone may be anybody's
            begun = out.exists() and isinstance(folder.environment().get("id"), str)
        # of a run that is not trained there is nothing to lose
        taken = out.exists() and (not begun or folder.model.exists() or folder.has_checkpoint)
        if taken and (not out.is_dir() or any(map(_is_of_use, out.iterdir()))):
            command = f"p2pkit run --resume {shlex.quote(str(out))}"
            resuming = f", or resume the run in it: {command}" if folder.has_checkpoint else ""
            raise RunDirError(f"{out}: there is something in that place already; choose another folder{resuming}")
        with os_errors_described(out):
            out.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """The folder of an earlier run, or the newest below ``path``. Raises RunDirError when there is none."""
        folder = cls(path)
        return folder if folder.recipe.is_file() else cls(newest_run(path, RECIPE, RunDirError))

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a run here, with a checkpoint to resume from. Raises ReadError where that cannot be seen."""
        named = (folder.name.startswith("step_") for folder in folders_in(self.checkpoints))
        return self.recipe.is_file() and any(named)

    def sample(self, step: int) -> Path:
        """The sample grid of one step."""
        return self.path / "samples" / f"step_{step:08}.png"

    def not_finite(self, step: int) -> Path:
        """The folder of a step whose loss was not finite: its batch, and the networks as they were."""
        return self.path / "not_finite" / f"step_{step:08}"

    @property
    def is_held(self) -> bool:
        """Whether a process is running in this folder; what a kill leaves there says so no more."""
        return is_locked(self.path / LOCK) is not False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from running in this folder, for as long as this one does or lives.

        Raises:
            RunDirError: another process is running in it.
        """
        file, owner = self.path / LOCK, self.path / ".owner"
        lock = FileLock(file, blocking=False)
        with os_errors_described(file):
            try:
                lock.acquire()
            except Timeout as error:
                running = "another process"
                with suppress(OSError, P2PKitError):
                    running = visible(read_regular(owner, 200).decode(errors="replace")) or running
                raise RunDirError(
                    f"{self.path}: {running} is running in it; wait for its end, or choose another --out"
                ) from error
        try:
            write_text(owner, f"process {os.getpid()} on {platform.node()}")
            yield
        finally:
            # before others may have the lock, who would lose theirs; Windows does not remove open files, and a share
            # that is lost must not hide what has ended the run
            with suppress(OSError):
                owner.unlink(missing_ok=True)
                file.unlink(missing_ok=True)
            with suppress(OSError):
                lock.release()

    def remove_unfinished(self) -> None:
        """Remove what a kill in the middle of writing has left under hidden names."""
        remove_unfinished(list(self.path.rglob(".*.part")))
        for left in list(self.path.rglob(".tmp*")):  # of safetensors, which writes aside as well
            with suppress(OSError):
                if _OF_SAFETENSORS.fullmatch(left.name) and left.lstat().st_mtime < time.time() - AN_OLD_FILE:
                    left.unlink()

    def begin(self, recipe: str, source: str, environment: Mapping[str, Any]) -> None:
        """Write what a run begins with: the resolved recipe, the recipe as written, what it runs on."""
        for left in (
            self.metrics, self.bad_data, self.validation, self.validation_pictures, self.status, self.report,
        ):  # fmt: skip
            left.unlink(missing_ok=True)
        # first of all: by that a folder is known as that of a run
        write_text(self.path / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
        write_text(self.path / "recipe.source.toml", source)
        write_text(self.recipe, recipe)

    def change(self, recipe: str, change: Mapping[str, Any]) -> None:
        """Write the recipe that the run is resumed with, and note in changes.jsonl what is changed when."""
        append_line(self.path / "changes.jsonl", change)
        write_text(self.recipe, recipe)

    def environment(self) -> dict[str, Any]:
        """What the run runs on, as :meth:`begin` wrote it.

        Raises:
            RunDirError: it is not there, or is damaged.
        """
        if not (found := read_record(self.path / ENVIRONMENT, Environment)):
            raise RunDirError(
                f"{self.path / ENVIRONMENT}: there is no such file, or nothing in it; the ranges of values come from "
                "it. Restore it from a copy of the run folder, or train anew"
            )
        return found

    def measured(self) -> dict[str, Any]:
        """What the last metrics are of; empty where there are none. Raises RunDirError where it is damaged."""
        return read_record(self.validation, Measured)

    def begin_again(self, run: str, start: Mapping[str, Any]) -> None:
        """Record another start, as :func:`this_start` describes it, of the run with the id ``run``."""
        environment = {**self.environment(), "id": run}
        environment["starts"] = [*environment.get("starts", []), start]
        write_json(self.path / ENVIRONMENT, environment)

    def ranges(self) -> dict[str, ValueRange]:
        """The ranges of values that the run began with, by side; those of the pixels' types are left out."""
        recorded = self.environment().get("data", {}).get("ranges", {})
        return {side: (low, high) for side, (low, high) in recorded.items()}


def this_start(device: str, processes: int, code: Mapping[str, str], compiled: bool = False) -> dict[str, Any]:
    """When, where and by what a run starts: on a ``device`` in words, in ``processes``, with plugins' ``code``.

    ``compiled`` says whether its networks are.

    None stands for what cannot be known.
    """
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "command": sys.argv, "host": platform.node(),
        "device": device, "processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
        "gpus": list(map(torch.cuda.get_device_name, range(torch.cuda.device_count()))), "cuda": torch.version.cuda,
        "gpu_driver": None, "p2pkit_commit": None, "directory_commit": None, "processes": processes,
        "python": platform.python_version(), "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "libraries": dict(zip(LIBRARIES, map(version, LIBRARIES), strict=True)), "plugin_code": code,
        "compiled": compiled, "tf32": _tf32(),
    }  # fmt: skip
    for name, file, expression in (
        ("processor", "/proc/cpuinfo", r"model name\s*: (.+)"),
        ("gpu_driver", "/proc/driver/nvidia/version", r"NVRM version: .*?(\d+(?:\.\d+)+)"),
    ):
        with suppress(OSError):
            if match := re.search(expression, Path(file).read_text(errors="replace")):
                found[name] = match[1]
    ours = Path(__file__).parents[1]
    for name, folder in (("p2pkit_commit", ours if (ours / ".git").exists() else None), ("directory_commit", Path())):
        with suppress(OSError, subprocess.SubprocessError):  # without git, outside a repository, on a slow disk
            if folder is not None:
                found[name] = _commit(folder)
    return found


def _tf32() -> dict[str, bool] | None:
    """Where a GPU may multiply float32 with 10 bits behind the point; None without one, or where that is not known."""
    if torch.cuda.is_available():
        convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
        with suppress(RuntimeError):  # where a program has set both this and what PyTorch has for it since 2.9
            return {"TF32 in convolutions": convolutions.allow_tf32, "TF32 in products": products.allow_tf32}
    return None


def _commit(folder: Path) -> str:
    """The commit of the repository that a folder is in, with -dirty behind where files differ.

    The repository may be a stranger's: no program runs that it names. Where it has some that files are compared
    through, they are not compared, and -unchecked is behind.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]
    unasked = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}

    said = list[str]()
    for arguments in (
        ("rev-parse", "--verify", "HEAD"),
        ("config", "--show-scope", "--name-only", "--get-regexp", r"^(filter\..*\.(clean|process)|core\.bare)$"),
        ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"),
    ):
        run = subprocess.run(
            [*command, *arguments], cwd=folder, env={**os.environ, **unasked}, stdin=subprocess.DEVNULL, timeout=5,
            capture_output=True, encoding="utf-8", errors="replace", check=True,
        )  # fmt: skip
        said.append(run.stdout.strip())
        if re.search(r"^(?!system|global|command)\w+\s+filter", run.stdout, re.MULTILINE):
            return f"{said[0]}-unchecked"
    return f"{said[0]}-dirty" if said[-1] else said[0]


def beginning(environment: Mapping[str, Any]) -> str:
    """What a run goes by of its environment.json, and cannot find anew: ranges of values, and its starting point."""
    found = {"ranges": environment.get("data", {}).get("ranges", {}), "init_from": environment.get("init_from")}
    return json.dumps(found, sort_keys=True)


def unlike(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What the same bytes depend on and two starts differ in, each as "threads: 2 -> 4"."""
    found = []
    for name in EXACTNESS:
        was, is_now = before.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            for key in {**was, **is_now}:
                if was.get(key) != is_now.get(key):
                    found.append(f"{key}: {was.get(key)} -> {is_now.get(key)}")
        elif name in before and was != is_now:
            found.append(f"{name}: {was} -> {is_now}")
    return list(map(visible, found))


def _is_of_use(file: Path) -> bool:
    """Not so what a kill leaves before the recipe is written: the lock, and a file that is not whole."""
    return file.name not in (".lock", ".owner") and not UNFINISHED.fullmatch(file.name)


def _dated(parent: Path) -> Path:
    """A new folder in ``parent`` named after this moment; a number is added when two runs share a second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        with os_errors_described(folder), suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise RunDirError(f"{parent}: a thousand runs have begun in this second; start it again")
