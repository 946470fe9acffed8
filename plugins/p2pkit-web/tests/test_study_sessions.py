"""Sessions of a study: asked in order, answered once, kept whatever ends the server; what is not asked is refused."""

from __future__ import annotations

import json
import sqlite3
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from study_sessions import JSON, SHORT, held, post, study_in, take_part
from test_web_command import started
from web_site import Answer, Site

from p2pkit.images.reading import read_image
from p2pkit_web.study import storage
from p2pkit_web.study.folder import Study, read_study
from p2pkit_web.study.storage import Answers

SHOWN = {"left_ms": 500, "right_ms": 501.5, "size": 256}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_in(tmp_path)


@pytest.fixture
def site(study: Study) -> Iterator[Site]:
    with held(study) as found:
        yield found


def begun(site: Site) -> str:
    """The path of a new session."""
    answer = post(site, "/api/sessions", {})
    assert answer.status == 201 and answer.json["place"] == 0
    return f"/api/sessions/{answer.json['session']}"


def test_a_session_from_begin_to_end(site: Site, study: Study) -> None:
    session = begun(site)
    for place in range(study.settings.per_session):
        record = Answers(study.answers).all()[place]
        trial = record.trial
        images = {side: site.get(f"{session}/trials/{place}/{side}.png").pixels for side in ("left", "right")}
        real = images["left" if trial.side == "right" else "right"]
        assert np.array_equal(real, read_image(study.image(None, trial.real)))
        if trial.kind == "check":
            assert (
                len(np.unique(images[trial.side])) > 200 and np.abs(np.diff(images[trial.side].astype(int))).mean() > 60
            )
        else:
            assert np.array_equal(images[trial.side], read_image(study.image(record.method, trial.fake)))
        state = post(site, f"{session}/trials/{place}/shown", SHOWN)
        assert state.json == {"place": place, "shown": True} == site.get(session).json
        told = post(site, f"{session}/trials/{place}/answer", {"fake": "left", "ms": 812.5}).json
        # only in practice is it told
        assert told["fake"] == (trial.side if trial.kind == "practice" else None)
    assert told["place"] is None
    kept = Answers(study.answers).all()
    assert {(record.answer, record.answer_ms) for record in kept} == {("left", 812.5)}
    assert kept[0].shown is not None and kept[0].shown.right_ms == 501.5


def test_nothing_in_an_image_says_which_is_fake(site: Site) -> None:
    session = begun(site)
    for side in ("left", "right"):
        answer = site.get(f"{session}/trials/0/{side}.png")
        assert Image.open(BytesIO(answer.body)).info == {} and answer.headers["Cache-Control"] == "no-store"
    about = site.get("/api/study").json
    assert about == {"practice": 1, "trials": 5, "seconds": 0.5, "showing": "in_turn", "size": 256}


def shown(site: Site, session: str) -> None:
    assert post(site, f"{session}/trials/0/shown", SHOWN).status == 200


def answered(place: int, **body: Any) -> Callable[[Site, str], Answer]:
    return lambda site, own: post(site, f"{own}/trials/{place}/answer", {"fake": "left", "ms": 1, **body})


def seen(**body: Any) -> Callable[[Site, str], Answer]:
    return lambda site, own: post(site, f"{own}/trials/0/shown", {**SHOWN, **body})


HOSTILE: dict[str, tuple[int, Callable[[Site, str], Answer]]] = {
    "an answer before the pair is shown": (409, answered(0)),
    "a trial that is not asked yet": (409, lambda site, own: post(site, f"{own}/trials/3/shown", SHOWN)),
    "an answer to a trial not asked yet": (409, answered(3)),
    "a trial that there is not": (409, answered(999999)),
    "a trial beyond what SQLite counts": (404, answered(10**30)),
    "a trial beyond what Python reads": (404, lambda site, own: site.get(f"{own}/trials/{'9' * 5000}/left.png")),
    "a trial that is no number": (404, lambda site, own: site.get(f"{own}/trials/-1/left.png")),
    "an image of another trial": (409, lambda site, own: site.get(f"{own}/trials/1/left.png")),
    "an image on no side": (404, lambda site, own: site.get(f"{own}/trials/0/fake.png")),
    "a path": (404, lambda site, own: site.get(f"{own}/trials/0/..%2f..%2fstudy.json")),
    "another's session": (404, lambda site, own: site.get("/api/sessions/guessed")),
    "a session of control characters": (404, lambda site, own: site.get("/api/sessions/%00%0a'%22;--")),
    "a side that is none": (400, answered(0, fake="both")),
    "a list for a side": (400, answered(0, fake=["left"])),
    "text for a number": (400, answered(0, ms="1")),
    "a truth for a number": (400, answered(0, ms=True)),
    "a negative time": (400, seen(left_ms=-1)),
    "a time that is not a number": (400, seen(left_ms=float("nan"))),
    "a time without end": (400, seen(size=1e300)),
    "something more": (400, answered(0, method="dark")),
    "something less": (400, lambda site, own: post(site, f"{own}/trials/0/answer", {"fake": "left"})),
    "a list": (400, lambda site, own: post(site, f"{own}/trials/0/answer", [])),
    "no JSON": (400, lambda site, own: site.ask("POST", f"{own}/trials/0/answer", b"{", JSON)),
    "deep JSON": (400, lambda site, own: site.ask("POST", f"{own}/trials/0/answer", b"[" * 900, JSON)),
    "no text": (400, lambda site, own: site.ask("POST", f"{own}/trials/0/answer", b"\xff\xfe\x00", JSON)),
    "a form": (415, lambda site, own: site.ask("POST", "/api/sessions", b"", {"Content-Type": "text/plain"})),
    "too much": (413, lambda site, own: site.ask("POST", f"{own}/trials/0/answer", b" " * 5000, JSON)),
    "another method": (405, lambda site, own: site.ask("DELETE", own)),
    "another site": (403, lambda site, own: site.ask("POST", "/api/sessions", b"{}", {**JSON, "Origin": "http://elsewhere"})),
    "another host": (421, lambda site, own: site.get("/api/study", {"Host": "rebound.example"})),
    "the answers": (404, lambda site, own: site.get("/answers.sqlite")),
    "the results": (404, lambda site, own: site.get("/api/results")),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_asked_is_refused_and_changes_nothing(what: str, site: Site, study: Study) -> None:
    session = begun(site)
    before = Answers(study.answers).all()
    status, ask = HOSTILE[what]
    answer = ask(site, session)
    assert answer.status == status and answer.json["error"]
    assert Answers(study.answers).all() == before and site.get(session).json == {"place": 0, "shown": False}


def test_an_answer_counts_once(site: Site, study: Study) -> None:
    session = begun(site)
    shown(site, session)
    assert site.get(f"{session}/trials/0/left.png").status == 409  # it is not shown again
    assert post(site, f"{session}/trials/0/shown", {**SHOWN, "left_ms": 9}).status == 200
    first = post(site, f"{session}/trials/0/answer", {"fake": "right", "ms": 5})
    # the connection broke before the answer came: the page sends it again
    assert post(site, f"{session}/trials/0/answer", {"fake": "right", "ms": 6}).json == first.json
    assert post(site, f"{session}/trials/0/answer", {"fake": "left", "ms": 7}).status == 409
    assert post(site, f"{session}/trials/0/shown", SHOWN).status == 409
    record = Answers(study.answers).all()[0]
    assert (record.answer, record.answer_ms) == ("right", 5)
    assert record.shown is not None and record.shown.left_ms == 500


def test_several_at_once_and_two_servers_lose_nothing(study: Study) -> None:
    with held(study) as one, held(study) as other:
        wrong: list[object] = []

        def participant(number: int) -> None:
            session = begun(one)
            for place in range(study.settings.per_session):
                site = (one, other)[(number + place) % 2]
                for path, value in (("shown", SHOWN), ("answer", {"fake": "left", "ms": number})):
                    answer = post(site, f"{session}/trials/{place}/{path}", value)
                    if answer.status != 200:
                        wrong.append((answer.status, answer.json))

        threads = [threading.Thread(target=participant, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = Answers(study.answers).all()
    assert not wrong and len(records) == 48 and all(record.answer == "left" for record in records)
    # each session is of one method, and the methods have as many
    assert Counter(record.method for record in records) == {"dark": 24, "light": 24}
    assert {len({record.method for record in records if record.participant == each}) for each in range(1, 9)} == {1}


def test_who_has_gone_leaves_their_method_to_others(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    take_part(study, lambda record: True, until=2)
    monkeypatch.setattr(storage, "ACTIVE_SECONDS", -1.0)
    take_part(study, lambda record: True)
    take_part(study, lambda record: True)
    finished = {record.participant: record.method for record in Answers(study.answers).all() if record.participant > 1}
    assert sorted(finished.values()) == ["dark", "light"]


def test_a_killed_server_goes_on_where_it_was(study: Study, tmp_path: Path) -> None:
    process, address = started("--out", study.folder, command="study")

    def ask(path: str, value: Any = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"{address}{path}", body, JSON)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    try:
        own = ask("api/sessions", {})["session"]
        ask(f"api/sessions/{own}/trials/0/shown", SHOWN)
        ask(f"api/sessions/{own}/trials/0/answer", {"fake": "left", "ms": 3})
        ask(f"api/sessions/{own}/trials/1/shown", SHOWN)
    finally:
        process.kill()
        process.wait()
    with held(study) as site:
        assert site.get(f"/api/sessions/{own}").json == {"place": 1, "shown": True}
    assert Answers(study.answers).all()[0].answer == "left"


def test_answers_that_cannot_be_kept_are_asked_for_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "WAIT_SECONDS", 0.1)
    with held(study) as site:
        session = begun(site)
        shown(site, session)
        busy = sqlite3.connect(study.answers, isolation_level=None)
        busy.execute("BEGIN IMMEDIATE")
        refused = post(site, f"{session}/trials/0/answer", {"fake": "left", "ms": 3})
        assert refused.status == 503 and int(refused.headers["Retry-After"]) > 0
        busy.execute("ROLLBACK")
        busy.close()
        assert post(site, f"{session}/trials/0/answer", {"fake": "left", "ms": 3}).status == 200


def test_a_folder_that_takes_no_answers_is_told_at_once(program: Callable[..., Any], study: Study) -> None:
    study.answers.mkdir()
    outcome = program("study", "--out", study.folder, "--port", "0")
    assert outcome.code == 2 and "answers cannot be written there" in outcome.err


def test_with_a_token_others_are_refused(study: Study) -> None:
    with held(study, "a-token-of-this-test") as site:
        assert site.get("/").status == site.get("/api/study").status == 401
        entry = site.get("/", token="a-token-of-this-test")
        assert entry.status == 303
        cookie = entry.headers["Set-Cookie"].partition(";")[0]
        assert site.get("/api/study", {"Cookie": cookie}).status == 200


def test_a_full_study_takes_nobody_in(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MOST_PARTICIPANTS", 1)
    with held(study) as site:
        begun(site)
        assert post(site, "/api/sessions", {}).status == 503


def test_settings_of_a_study_are_kept(tmp_path: Path) -> None:
    study = study_in(tmp_path, replace(SHORT, showing="together", size=128))
    assert read_study(study.folder) == study
    with held(study) as site:
        assert site.get("/api/study").json["showing"] == "together"
