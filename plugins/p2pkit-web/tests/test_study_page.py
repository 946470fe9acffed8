"""A study in Debian's Chromium, from the command to its results. Skipped where Playwright or Chromium is not there."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from study_sessions import SHORT, folder_of, held, study_in
from test_web_command import started
from web_site import Site

from p2pkit_web.study.folder import Study, read_study
from p2pkit_web.study.results import results_of
from p2pkit_web.study.storage import Answers, Record
from tests.browser import PHONE, browser, needs_browser, new_page
from tests.conftest import Call

__all__ = ["browser"]
pytestmark = needs_browser
KEYS = {"left": ("1", "ArrowLeft"), "right": ("2", "ArrowRight")}
# Watched in every frame: a locator looks again after up to half a second, which is how long an image is shown.
ONLY_SHOWN = """side => [...document.querySelectorAll(".place")].every(place =>
    place.disabled && place.querySelector("canvas").hidden === (place.id !== side))"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_in(tmp_path)


@pytest.fixture
def site(study: Study) -> Iterator[Site]:
    with held(study) as found:
        yield found


def opened(browser: Any, address: str, **options: Any) -> Any:
    """The page; what goes wrong in it is an error of the test."""
    page = new_page(browser, **options)
    page.goto(address)
    page.locator("#begin").wait_for()
    return page


def asked(study: Study, participant: int) -> Record:
    """The trial that a participant is at."""
    records = Answers(study.answers).all()
    return next(record for record in records if record.participant == participant and record.answer is None)


def finish(page: Any, study: Study, participant: int, press: Any) -> None:
    """Answer a session to its end by ``press``, given the page, the side of the fake, and the trial's place."""
    for _ in range(100):
        page.locator("#left:enabled, #go-on:visible, #next:visible, #end:visible").first.wait_for()
        if page.locator("#end").is_visible():
            return
        if page.locator("#left").is_enabled():
            record = asked(study, participant)
            with page.expect_response("**/answer"):
                press(page, record.trial.side, record.place)
        else:
            page.locator("#go-on:visible, #next:visible").first.click()
    raise AssertionError("the session does not end")


def test_from_the_command_to_the_results(browser: Any, program: Call, tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / name, change=change) for name, change in (("dark", 20), ("light", 60))]
    out, short = tmp_path / "study", ("--practice", "1", "--trials", "4", "--checks", "1", "--seconds", "0.5")
    process, address = started(
        *folders, "--real", folder_of(tmp_path / "real"), "--out", out, *short, command="study"
    )  # fmt: skip
    try:
        study = read_study(out)
        for participant in (1, 2):  # all found by keys; half by the mouse
            page = opened(browser, address)
            page.locator("#begin").click()
            page.wait_for_function(ONLY_SHOWN, arg="left")
            page.wait_for_function(ONLY_SHOWN, arg="right")
            if participant == 1:
                finish(page, study, 1, lambda page, side, place: page.keyboard.press(KEYS[side][place % 2]))
            else:
                finish(page, study, 2, lambda page, side, place: page.locator("#left").click())
            assert page.wrong == []
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    records = Answers(study.answers).all()
    assert {record.method for record in records} == {"dark", "light"}
    assert all(record.right for record in records if record.participant == 1)
    assert all(record.answer == "left" for record in records if record.participant == 2)
    assert all(record.shown is not None and record.shown.left_ms > 450 for record in records)
    outcome = program("study", "--results", "--out", out)
    assert outcome.code == 0 and records[0].method in outcome.out
    found = next(each for each in results_of(study).methods if each.method == records[0].method)
    assert found.fooled == 0 and found.participants == 1


def test_practice_tells_and_shows_again(browser: Any, site: Site, study: Study) -> None:
    page = opened(browser, site.url)
    page.locator("#begin").click()
    page.locator("#left:enabled").wait_for()
    fake = asked(study, 1).trial.side
    page.locator("#left").click()
    page.locator("#next").wait_for()
    assert page.locator("#prompt").inner_text().startswith("Right" if fake == "left" else "Wrong")
    assert page.locator(f"#{fake} em").inner_text() == "fake"
    assert page.locator("#left canvas").is_visible() and page.locator("#right canvas").is_visible()
    page.keyboard.press("Enter")
    page.locator("#go-on").wait_for()
    page.keyboard.press("Enter")
    page.locator("#left:enabled").wait_for()
    page.keyboard.press("1")
    page.locator("#count", has_text="Pair 2 of 5").wait_for()  # nobody is told, nobody need press "Next pair"
    assert page.locator("#prompt").inner_text() in ("Which one was the fake?", "Look closely")
    assert page.locator("em").all_inner_texts() == ["", ""]


def test_a_phone_goes_on_after_it_was_closed(browser: Any, site: Site, study: Study) -> None:
    page = opened(browser, site.url, **PHONE)
    page.locator("#begin").tap()
    page.locator("#left:enabled").wait_for()
    boxes = [page.locator(f"#{side}").bounding_box() for side in ("left", "right")]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] and boxes[1]["y"] + boxes[1]["height"] < 844
    assert boxes[0]["width"] > 200
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
    page = page.context.new_page()
    page.set_default_timeout(20_000)
    page.goto(site.url)
    page.locator("#again").wait_for()
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.locator("#begin").tap()
    page.locator("#left:enabled").wait_for()
    assert not any(url.endswith(".png") for url in loaded)  # what was shown is not shown again
    finish(page, study, 1, lambda page, side, place: page.locator(f"#{side}").tap())
    assert all(record.right for record in Answers(study.answers).all())
    page.reload()
    page.locator("#end").wait_for()
    page.goto(f"{site.url}/?next")  # for the next person at this phone
    page.locator("#begin").tap()
    page.locator("#left:enabled").wait_for()
    assert asked(study, 2).place == 0


def test_the_page_waits_for_a_server_that_is_away(browser: Any, site: Site, study: Study) -> None:
    page = opened(browser, site.url)
    page.locator("#begin").click()
    page.locator("#left:enabled").wait_for()
    page.context.set_offline(True)
    page.keyboard.press("2")
    page.locator("#problem", has_text="nothing is lost").wait_for()
    page.context.set_offline(False)
    page.locator("#next").wait_for()
    assert page.locator("#problem").is_hidden()
    assert Answers(study.answers).all()[0].answer == "right"


def test_two_windows_of_one_person_end_at_one_place(browser: Any, site: Site, study: Study) -> None:
    page = opened(browser, site.url)
    page.locator("#begin").click()
    page.locator("#left:enabled").wait_for()
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("#begin").click()
    other.locator("#left:enabled").wait_for()
    other.keyboard.press("2")
    other.locator("#next").wait_for()
    page.keyboard.press("1")  # another answer to the same trial
    page.locator("#go-on").wait_for()
    assert Answers(study.answers).all()[0].answer == "right"


def test_the_link_with_the_token_works_from_a_page_elsewhere(browser: Any, study: Study) -> None:
    with held(study, "a-token-of-this-test") as site:
        page = browser.new_context().new_page()
        link = f"http://127.0.0.1:{site.port}/?token=a-token-of-this-test"
        page.route(
            "http://mail.example/*",
            lambda route: route.fulfill(body=f'<a href="{link}">study</a>', content_type="text/html"),
        )
        page.goto("http://mail.example/")
        page.locator("a").click()
        page.locator("#begin").wait_for(timeout=10_000)
        page.locator("#begin").click()
        page.locator("#left:enabled").wait_for(timeout=10_000)
        assert SHORT.seconds and page.url.startswith(f"http://127.0.0.1:{site.port}/#")
