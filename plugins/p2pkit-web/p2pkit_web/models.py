"""The models that are served: named, or the runs found here; loaded when they are wanted, anew when they change."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from p2pkit.errors import P2PKitError
from p2pkit.utils.atomic import is_locked
from p2pkit_web.answers import Refusal

if TYPE_CHECKING:
    from p2pkit import Translator

RUNS, MODEL, RECIPE, LOCK = "runs", "model.safetensors", "recipe.toml", ".lock"
"""The folder that runs are looked for in, and what a run folder holds: a model, a recipe, and who is in it."""
SHIPPED = "p2pkit:quickstart"
KEPT = 6
"""So many models are kept in memory, or as many as were named."""


@dataclass(eq=False)
class Model:
    """One model: what it is called, where its file is, and the translator once it is loaded."""

    id: str
    title: str
    path: Path | None
    """A model file, or a run folder; None for one that a plugin provides."""
    named: str
    """As it is loaded."""
    translator: Translator | None = None
    version: str = ""
    """Changes when the file does."""
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def training(self) -> bool:
        """Whether a process is running in its run folder."""
        return self.path is not None and is_locked(self.path / LOCK) is not False

    @property
    def file(self) -> Path | None:
        """The model file; None for a plugin's."""
        return self.path / MODEL if self.path is not None and self.path.is_dir() else self.path

    @property
    def there(self) -> bool:
        """Whether there is a model yet; a run writes one with its first checkpoint."""
        return self.file is None or self.file.is_file()

    @property
    def awaited(self) -> bool:
        """Whether this is a run that has not written its model yet."""
        return self.path is not None and not self.there and (self.path / RECIPE).is_file()

    def told(self, error: Exception) -> str:
        """What an error says of the model, which is called by its title there: its path is nobody's business."""
        return str(error).replace(str(self.file), self.title)

    def stamp(self) -> str:
        """What tells one state of the file from another."""
        if self.file is None:
            return "shipped"
        try:
            found = self.file.stat()
        except OSError:
            return ""
        return f"{found.st_mtime_ns:x}-{found.st_size:x}"


class Models:
    """The models of a server, by id."""

    def __init__(self, named: Sequence[str], load: Callable[[str], Translator]) -> None:
        """``load`` gives the translator of what is ``named``. With nothing named the runs found here are offered."""
        self._load, self._all, self._searching, self._clock = load, dict[str, Model](), not named, 0
        self._most, self._changing = max(KEPT, len(named)), threading.Lock()
        for each in named:
            self._add(each)
        self.search()

    def search(self) -> list[Model]:
        """All models, after a look for new runs; the newest runs first, and the model that ships last."""
        with self._changing:
            if self._searching:
                recipes = [*Path(RUNS).glob(f"*/{RECIPE}"), *Path(RUNS).glob(f"*/*/{RECIPE}")]
                known = {model.path for model in self._all.values()}
                for folder in sorted((each.parent for each in recipes), key=_began, reverse=True):
                    if folder not in known:
                        self._add(str(folder))
                if not any(model.named == SHIPPED for model in self._all.values()):
                    self._add(SHIPPED)
            found = list(self._all.values())
            if self._searching:
                found.sort(key=lambda model: (model.path is None, -_began(model.path) if model.path else 0))
            return found

    def get(self, wanted: str | None) -> Model:
        """The model of an id; without one the first that is there. Raises Refusal where there is none."""
        if wanted is None:
            found = next((model for model in self.search() if model.there), None)
            if found is not None:
                return found
        elif wanted in self._all:
            return self._all[wanted]
        known = ", ".join(self._all)
        raise Refusal(404, f"there is no model {str(wanted)[:100]!r}", f"GET /api/models lists them: {known[:500]}")

    def loaded(self, model: Model) -> Translator:
        """The translator of a model, of its file as it is now.

        Raises:
            Refusal: it has none yet.
            P2PKitError: the file is damaged, or needs what is not here.
        """
        with model.lock:
            stamp = model.stamp()
            if model.awaited and model.translator is None:
                raise Refusal(404, f"the run {model.title} has no model yet", "it writes one with its first checkpoint")
            if model.translator is None or (stamp and stamp != model.version):
                try:
                    model.translator, model.version = self._load(model.named), stamp
                except P2PKitError:
                    if model.translator is None:  # else what was there goes on
                        raise
            self._clock += 1
            model.used = self._clock
            translator = model.translator
        self._forget_others()
        return translator

    @property
    def in_memory(self) -> int:
        """How many models are loaded."""
        return sum(model.translator is not None for model in list(self._all.values()))

    def _forget_others(self) -> None:
        with self._changing:
            loaded = sorted((each for each in self._all.values() if each.translator), key=lambda each: each.used)
            for model in loaded[: -self._most]:
                model.translator = None

    def _add(self, named: str) -> Model:
        path = None if ":" in named and not Path(named).exists() else _run_in(Path(named))
        title = _title(path) if path is not None else named.removeprefix("p2pkit:")
        wanted = re.sub(r"[^A-Za-z0-9_.-]+", "-", title).strip("-.") or "model"
        unique, number = wanted, 2
        while unique in self._all:
            unique, number = f"{wanted}-{number}", number + 1
        self._all[unique] = Model(unique, title, path, str(path or named))
        return self._all[unique]


def _title(path: Path) -> str:
    """What a model is called: by its file, or by its run, such as "shoes · 20260131-120000"."""
    if path.suffix and path.name != MODEL:
        return path.stem
    parts = [part for part in path.parts if part not in (RUNS, "/", ".", "..", MODEL)]
    return " · ".join(parts[-2:]) or "model"


def _run_in(path: Path) -> Path:
    """The path itself, or where it is a folder of runs, the newest of these."""
    if not path.is_dir() or (path / MODEL).is_file() or (path / RECIPE).is_file():
        return path
    runs = [found.parent for pattern in (f"*/{RECIPE}", f"*/*/{RECIPE}") for found in path.glob(pattern)]
    return max(runs, key=_began, default=path)


def _began(folder: Path) -> float:
    """When a run began: when its recipe was written."""
    try:
        return (folder / RECIPE).stat().st_mtime
    except OSError:
        return 0.0
