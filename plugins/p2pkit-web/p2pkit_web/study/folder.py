"""A study on the disk: its settings, its methods, and which image files there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from p2pkit.errors import P2PKitError

ABOUT, ANSWERS, IMAGES = "study.json", "answers.sqlite", "images"
"""What a study's folder holds."""
FORMAT = 1
Pairing = Literal["same", "different"]
Showing = Literal["in_turn", "together"]


@dataclass(frozen=True)
class Settings:
    """How a study is held; the defaults are the paper's, and its authors' program's."""

    practice: int = 10
    """Trials with feedback that come first and do not count."""
    trials: int = 40
    """Trials without feedback."""
    checks: int = 6
    """Trials among these in which the fake is noise, by which it is known who does not look."""
    seconds: float = 1.0
    """How long each image is shown."""
    showing: Showing = "in_turn"
    """The left image and then the right one, or both together."""
    pairing: Pairing = "same"
    """Whether the real image of a trial is that of the fake one's key, or of another."""
    size: int = 256
    """The longer side of an image as it is shown, in CSS pixels, where there is room for it."""
    seed: int = 0
    """Of who sees what in which order."""

    @property
    def per_session(self) -> int:
        """How many trials a session has, practice and checks among them."""
        return self.practice + self.trials + self.checks


@dataclass(frozen=True)
class Study:
    """A study in its folder."""

    folder: Path
    settings: Settings
    methods: Mapping[str, str]
    """What each method's images were made of or taken from, by its name."""
    keys: tuple[str, ...]
    """Of the images of each method."""
    real: tuple[str, ...]
    """Of the real images; these are ``keys`` unless different ones are paired."""
    places: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """The number of each key among all."""

    def __post_init__(self) -> None:
        names = dict.fromkeys([*self.keys, *self.real])
        object.__setattr__(self, "places", {key: number for number, key in enumerate(names)})

    @property
    def answers(self) -> Path:
        """The file of the answers."""
        return self.folder / ANSWERS

    def image(self, method: str | None, key: str) -> Path:
        """The file of a method's image, or without a method of the real one."""
        return image_file(self.folder, None if method is None else list(self.methods).index(method), self.places[key])

    def write(self, folder: Path) -> None:
        """Write what the study is into a folder."""
        about = {
            "format": FORMAT, "settings": asdict(self.settings), "methods": dict(self.methods),
            "keys": self.keys, "real": self.real,
        }  # fmt: skip
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def image_file(folder: Path, method: int | None, place: int) -> Path:
    """Where an image of a study lies: of a method by its number, or a real one; keys are not names of files."""
    return folder / IMAGES / ("real" if method is None else f"method-{method}") / f"{place:05d}.png"


def read_study(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        P2PKitError: there is none, or it cannot be read.
    """
    file = folder / ABOUT
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise P2PKitError(
            f"{folder}: there is no study in this folder; name the runs or folders of images to make one"
        ) from error
    except (OSError, ValueError) as error:
        raise P2PKitError(f"{file}: this cannot be read ({error}); make the study anew in another folder") from error
    if isinstance(about, dict) and about.get("format", FORMAT) != FORMAT:
        raise P2PKitError(f"{file}: its format is {about['format']}, known is {FORMAT}; install a newer p2pkit-web")
    try:
        settings = _settings(about["settings"])
        methods = {str(name): str(made_of) for name, made_of in about["methods"].items()}
        return Study(folder, settings, methods, tuple(map(str, about["keys"])), tuple(map(str, about["real"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise P2PKitError(f"{file}: this is not what was written ({error!r}); put the file back as it was") from error


def _settings(found: Mapping[str, Any]) -> Settings:
    given = {name: type(default)(found[name]) for name, default in asdict(Settings()).items()}
    for name, known in (("showing", get_args(Showing)), ("pairing", get_args(Pairing))):
        if given[name] not in known:
            raise ValueError(f"{name} = {given[name]!r}")
    return Settings(**given)
