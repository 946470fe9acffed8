"""Participants, their trials and answers in SQLite: several servers may write at once, and a kill loses nothing."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random

from p2pkit.errors import P2PKitError
from p2pkit_web.answers import Refusal, busy
from p2pkit_web.study.folder import Study
from p2pkit_web.study.trials import Kind, Side, Trial, plan

WAIT_SECONDS = 10.0
"""For another process that writes."""
ACTIVE_SECONDS = 3600.0
"""Who has answered within this time is counted on to finish."""
MOST_PARTICIPANTS = 20_000
GO_ON = "GET the state of the session, and go on from there"
TABLES = """
CREATE TABLE IF NOT EXISTS participants (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, method TEXT NOT NULL, joined REAL NOT NULL, seen REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS trials (
    participant INTEGER NOT NULL REFERENCES participants(number), place INTEGER NOT NULL,
    kind TEXT NOT NULL, fake TEXT NOT NULL, real TEXT NOT NULL, side TEXT NOT NULL,
    left_ms REAL, right_ms REAL, size REAL, answer TEXT, answer_ms REAL, answered REAL,
    PRIMARY KEY (participant, place)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Shown:
    """What a browser measured of a pair: how long each image was there, and how large its longer side was."""

    left_ms: float
    right_ms: float
    size: float
    """In CSS pixels."""


@dataclass(frozen=True)
class Record:
    """A trial of a participant, and what came of it."""

    participant: int
    method: str
    place: int
    """From 0 on, practice included."""
    trial: Trial
    shown: Shown | None
    answer: Side | None
    """Which image the participant took for the fake one."""
    answer_ms: float | None
    answered: float | None
    """When, in seconds since 1970."""

    @property
    def right(self) -> bool:
        """Whether the fake image was found."""
        return self.answer == self.trial.side


class Answers:
    """The answers of a study; every call opens the file by itself."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def prepare(self) -> None:
        """Make the tables where there are none; P2PKitError where they cannot be written."""
        try:
            with closing(self._connected()) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(TABLES)
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise P2PKitError(
                f"{self._file}: answers cannot be written there ({error}); choose a folder that you may write to"
            ) from error

    def join(self, study: Study) -> str:
        """Take in a participant: the method with the fewest sessions is theirs. Gives the id, known to them alone."""
        now = time.time()
        with self._writing() as connection:
            (count,) = connection.execute("SELECT count(*) FROM participants").fetchone()
            if count >= MOST_PARTICIPANTS:
                raise Refusal(503, f"the study has {count} participants", "no more are taken in")
            number, own = count + 1, secrets.token_urlsafe(16)
            method = _fewest(connection, study, number, now)
            connection.execute("INSERT INTO participants VALUES (?, ?, ?, ?, ?)", (number, own, method, now, now))
            rows = [(number, place, *astuple(trial)) for place, trial in enumerate(plan(study, number))]
            connection.executemany(
                "INSERT INTO trials (participant, place, kind, fake, real, side) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
        return own

    def current(self, own: str) -> Record | None:
        """The trial that a participant is at; None where all are answered. Refusal where there is no such one."""
        with self._reading() as connection:
            return _current(connection, own)

    def show(self, own: str, place: int, shown: Shown) -> None:
        """Keep that a pair was shown; of a second time nothing is kept.

        Raises:
            Refusal: the participant is not at this trial.
        """
        with self._writing() as connection:
            record = _current(connection, own)
            if record is None or record.place != place:
                raise _elsewhere(place, record)
            if record.shown is None:
                connection.execute(
                    "UPDATE trials SET left_ms = ?, right_ms = ?, size = ? WHERE participant = ? AND place = ?",
                    (shown.left_ms, shown.right_ms, shown.size, record.participant, place),
                )

    def answer(self, own: str, place: int, side: Side, milliseconds: float) -> Record:
        """Keep an answer; the same one again changes nothing. Gives the trial as it is kept.

        Raises:
            Refusal: the participant is not at this trial, has not seen it, or has answered it otherwise.
        """
        now = time.time()
        with self._writing() as connection:
            record = _current(connection, own)
            if record is not None and record.place == place:
                if record.shown is None:
                    raise Refusal(409, f"trial {place} has not been shown", "show it first")
                connection.execute(
                    "UPDATE trials SET answer = ?, answer_ms = ?, answered = ? WHERE participant = ? AND place = ?",
                    (side, milliseconds, now, record.participant, place),
                )
                connection.execute("UPDATE participants SET seen = ? WHERE number = ?", (now, record.participant))
            kept = _records(connection, "WHERE id = ? AND place = ?", own, place)
        if not kept or kept[0].answer is None:
            raise _elsewhere(place, record)
        if kept[0].answer != side:
            raise Refusal(409, f"trial {place} is answered already", GO_ON)
        return kept[0]

    def all(self) -> list[Record]:
        """All trials of all participants in their order."""
        if not self._file.exists():
            return []
        try:
            with self._reading() as connection:
                return _records(connection, "ORDER BY participant, place")
        except Refusal as refusal:
            raise P2PKitError(f"{self._file}: {refusal.error}; {refusal.hint}") from refusal

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=WAIT_SECONDS, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")  # an answer that was taken is on the disk
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connected()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise busy(f"the answers cannot be read or written now ({error})") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process comes between; undone where something is raised."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")


def _fewest(connection: sqlite3.Connection, study: Study, number: int, now: float) -> str:
    """The method with the fewest sessions that are finished or going on; among equals by chance."""
    found = connection.execute(
        "SELECT method, count(*) FROM participants WHERE seen > ? OR NOT EXISTS "
        "(SELECT 1 FROM trials WHERE participant = number AND answer IS NULL) GROUP BY method",
        (now - ACTIVE_SECONDS,),
    )
    counts = dict.fromkeys(study.methods, 0) | dict(found.fetchall())
    fewest = min(counts[method] for method in study.methods)
    return Random(f"method {study.settings.seed} {number}").choice(
        [each for each in study.methods if counts[each] == fewest]
    )


def _current(connection: sqlite3.Connection, own: str) -> Record | None:
    if connection.execute("SELECT 1 FROM participants WHERE id = ?", (own,)).fetchone() is None:
        raise Refusal(404, "there is no such session", "begin one at /")
    found = _records(connection, "WHERE id = ? AND answer IS NULL ORDER BY place LIMIT 1", own)
    return found[0] if found else None


def _records(connection: sqlite3.Connection, which: str, *values: object) -> list[Record]:
    rows = connection.execute(
        "SELECT participant, method, place, kind, fake, real, side, left_ms, right_ms, size, answer, answer_ms, "
        f"answered FROM trials JOIN participants ON participant = number {which}",
        values,
    )
    return [_record(*row) for row in rows]


def _record(
    participant: int, method: str, place: int, kind: Kind, fake: str, real: str, side: Side, left: float | None,
    right: float | None, size: float | None, answer: Side | None, answer_ms: float | None, answered: float | None,
) -> Record:  # fmt: skip
    shown = None if left is None or right is None or size is None else Shown(left, right, size)
    return Record(participant, method, place, Trial(kind, fake, real, side), shown, answer, answer_ms, answered)


def _elsewhere(place: int, record: Record | None) -> Refusal:
    where = "all trials are answered" if record is None else f"the session is at trial {record.place}"
    return Refusal(409, f"trial {place} is not asked now: {where}", GO_ON)
