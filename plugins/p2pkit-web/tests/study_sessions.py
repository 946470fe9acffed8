"""Studies for tests, people who take part in them, and requests to their server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from web_site import Answer, Site, running

from p2pkit_web.study.application import application
from p2pkit_web.study.folder import Settings, Study
from p2pkit_web.study.making import make
from p2pkit_web.study.storage import Answers, Record, Shown
from tests.conftest import picture, save

SHORT = Settings(practice=1, trials=4, checks=1, seconds=0.5)
JSON = {"Content-Type": "application/json"}


def folder_of(folder: Path, count: int = 8, change: int = 0, size: int = 24, first: int = 0) -> Path:
    """A folder of images; ``change`` is added to their pixels."""
    for number in range(first, first + count):
        save(folder / f"{number}.png", picture(size, size, number) // 2 + change)
    return folder


def study_in(folder: Path, settings: Settings = SHORT, methods: int = 2) -> Study:
    """A study of two methods, "dark" and "light", made of folders."""
    given = {"dark": 20, "light": 60}
    named = {name: str(folder_of(folder / name, change=change)) for name, change in list(given.items())[:methods]}
    return make(folder / "study", named, folder_of(folder / "real"), settings, load=lambda named: None)  # type: ignore[arg-type,return-value]


@contextmanager
def held(study: Study, token: str | None = None) -> Iterator[Site]:
    """A server of a study."""
    with running(application(study, token)) as site:
        yield site


def post(site: Site, path: str, value: Any) -> Answer:
    """The answer to a POST of JSON."""
    return site.ask("POST", path, json.dumps(value), JSON)


def take_part(
    study: Study, finds: Callable[[Record], bool], shown: Shown | None = None, until: int | None = None
) -> str:
    """Answer a session, or as many trials as ``until``; ``finds`` says whether the fake of a trial is found."""
    answers = Answers(study.answers)
    answers.prepare()
    own = answers.join(study)
    milliseconds = 1000 * study.settings.seconds
    while (record := answers.current(own)) is not None and record.place != until:
        answers.show(own, record.place, shown or Shown(milliseconds, milliseconds, 256))
        other = "left" if record.trial.side == "right" else "right"
        answers.answer(own, record.place, record.trial.side if finds(record) else other, 700)  # type: ignore[arg-type]
    return own
