"""The page on a run in a browser: at a desk and on a phone, in light and in dark, from the file as it lies there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import PHONE, browser, needs_browser, new_page
from tests.conftest import Call

__all__ = ["browser"]
pytestmark = needs_browser
DESK = {"viewport": {"width": 1280, "height": 900}}
SETTINGS = (
    "data.pairs=6", "data.val_pairs=2", "data.test_pairs=0", "data.size=32", "transform.load_size=32",
    "transform.crop_size=32", "generator.depth=3", "generator.width=4", "discriminator.width=4", "train.max_steps=12",
    "train.sample_every=4", "train.log_every=2", "validation.every=6",
)  # fmt: skip


@pytest.fixture
def report(p2pkit: Call, tmp_path: Path) -> Path:
    """The page of a run of the quickstart's recipe, made small."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    outcome = p2pkit("run", "p2pkit:quickstart", "--out", tmp_path / "run", *settings)
    assert outcome.code == 0, outcome.err
    return tmp_path / "run" / "report.html"


def brightness(page: Any, of: str, what: str) -> float:
    """The mean of the red, green and blue of a colour that an element has, 0 to 255."""
    script = "(element, what) => getComputedStyle(element)[what].match(/[0-9.]+/g).slice(0, 3).map(Number)"
    parts: list[float] = page.locator(of).first.evaluate(script, what)
    return sum(parts) / 3


def shown(page: Any) -> set[str]:
    """The steps of the outputs that are to be seen."""
    steps = page.locator(".over img[data-step]:visible").evaluate_all("all => all.map(each => each.dataset.step)")
    return set(steps)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_it_fits_and_can_be_read(browser: Any, report: Path, screen: dict[str, Any], scheme: str) -> None:
    page = new_page(browser, **screen, color_scheme=scheme, offline=True)
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground, ink = brightness(page, "body", "backgroundColor"), brightness(page, "body", "color")
    assert (ground > 200 > 100 > ink) if scheme == "light" else (ground < 60 < 180 < ink)
    images = page.locator("img:visible").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert images and all(images)
    plots = page.locator(".plot svg").evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    width = page.viewport_size["width"]
    assert plots and all(0.2 * width < each <= width for each in plots)

    assert shown(page) == {"12"}
    page.locator("#time").fill("0")
    first = shown(page)
    assert len(first) == 1 and int(*first) < 12
    assert page.locator("#step").inner_text() == f"step {int(*first)}"
    page.locator("#play").click()
    page.locator("#step", has_text="step 12").wait_for()
    assert shown(page) == {"12"}

    stack = page.locator(".wipe .stack").first
    stack.scroll_into_view_if_needed()
    box = stack.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert 20 <= int(page.locator(".wipe input[type=range]").first.input_value()) <= 30
    assert page.wrong == []
