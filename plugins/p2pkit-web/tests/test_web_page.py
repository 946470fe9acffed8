"""The page in a browser: Debian's Chromium, driven by Playwright. Skipped where either is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from web_site import Site, changed, encoded, serving

from tests.browser import PHONE, browser, needs_browser, new_page
from tests.conftest import picture, untrained_model

__all__ = ["browser"]
pytestmark = needs_browser


@pytest.fixture(scope="module")
def facades() -> Iterator[Site]:
    with serving("p2pkit:quickstart") as site:
        yield site


def opened(browser: Any, site: Site, **options: Any) -> Any:
    """The page, once it shows an output; what goes wrong in it is an error of the test."""
    page = new_page(browser, **options)
    page.goto(site.url)
    page.locator("body[data-ready=true]").wait_for()
    return page


def settled(page: Any) -> str:
    """The address of the output once nothing more is asked for."""
    page.locator(".output[aria-busy=false] .frame:not(.empty)").first.wait_for()
    address = ""
    for _ in range(100):
        page.wait_for_timeout(100)
        former, address = address, page.locator(".made").first.get_attribute("src")
        if address == former and page.locator(".output[aria-busy=true]").count() == 0:
            break
    return address


def changes(page: Any, act: Any) -> None:
    """Do something, and see that the output changes."""
    before = settled(page)
    act()
    assert settled(page) != before


def board(page: Any, side: int = 128) -> Any:
    """The class of each pixel of the drawing, by its colour."""
    data = page.locator("canvas.board").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    return np.array(data).reshape(side, side, 4)[:, :, :3]


def drag(page: Any, left: float, top: float, right: float, bottom: float) -> None:
    """Draw from one place of the drawing, in shares of its sides, to another."""
    box = page.locator("canvas.board").bounding_box()
    page.mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + right * box["width"], box["y"] + bottom * box["height"], steps=3)
    page.mouse.up()


def choose(page: Any, name: str) -> None:
    page.get_by_role("radio", name=name, exact=True).check(force=True)


def test_a_facade_is_drawn_with_rectangles(browser: Any, facades: Site) -> None:
    page = opened(browser, facades)
    changes(page, lambda: page.get_by_role("button", name="Clear").click())
    choose(page, "facade")
    changes(page, lambda: drag(page, 0.1, 0.2, 0.9, 0.95))
    choose(page, "window")
    changes(page, lambda: drag(page, 0.2, 0.3, 0.4, 0.5))
    drawn = board(page)
    assert (drawn[50, 38] == (0, 85, 255)).all() and (drawn[100, 64] == (0, 0, 255)).all()
    assert (drawn[5, 5] == (0, 0, 170)).all()
    changes(page, lambda: page.keyboard.press("Control+z"))
    assert (board(page)[50, 38] == (0, 0, 255)).all()
    changes(page, lambda: page.get_by_role("button", name="Redo").click())
    assert np.array_equal(board(page), drawn)
    choose(page, "door")
    page.keyboard.press("f")
    changes(page, lambda: drag(page, 0.3, 0.4, 0.3, 0.4))
    assert (board(page)[50, 38] == (0, 170, 255)).all()
    assert page.wrong == []


def test_keys_alone_draw(browser: Any, facades: Site) -> None:
    page = opened(browser, facades)
    settled(page)
    page.locator("canvas.board").focus()
    before = board(page)
    page.keyboard.press("]")
    keys = ("ArrowLeft", "Space", "ArrowRight", "ArrowDown", "ArrowDown", "Space")
    changes(page, lambda: [page.keyboard.press(key) for key in keys])
    page.keyboard.press("Tab")  # the cursor is not shown any more
    changed = (board(page) != before).any(2)
    assert 0 < changed.sum() <= 5 * 9 and changed[66, 62]


def test_a_phone_draws_by_touch_and_sees_the_output(browser: Any, facades: Site) -> None:
    page = opened(browser, facades, **PHONE, color_scheme="dark")
    settled(page)
    width = page.locator("html").evaluate("element => element.scrollWidth")
    assert width <= 390
    made = page.locator(".frame").bounding_box()
    assert made["y"] + made["height"] <= 844  # both are seen at once
    box = page.locator("canvas.board").bounding_box()
    page.locator(".tool", has_text="Fill").tap()
    page.locator(".class", has_text="shop").tap()
    changes(page, lambda: page.touchscreen.tap(box["x"] + 5, box["y"] + 5))
    assert (board(page)[1, 1] == (170, 0, 0)).all()
    assert page.wrong == []


def test_another_sample_is_another_output(browser: Any, model: Path) -> None:
    with serving(
        model, untrained_model(model.with_name("still.safetensors"), "resnet", width=4, blocks=1, dropout=0.0)
    ) as site:
        page = opened(browser, site)
        page.set_input_files(
            "input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": encoded(picture(24, 32, 1))}
        )
        changes(page, lambda: page.get_by_role("button", name="Another sample").click())
        assert page.locator(".seed").inner_text() == "Sample 2"
        page.locator("summary", has_text="Side by side").click()
        page.get_by_role("checkbox", name="still").check()
        page.locator(".output").nth(1).locator(".frame:not(.empty)").wait_for()
        # no seeds for a model that draws none
        assert page.get_by_role("button", name="Another sample").count() == 1
        assert page.wrong == []


def test_a_deep_tiff_is_dropped_cropped_and_downloaded(browser: Any, model: Path) -> None:
    deep = changed(model, "deep", source_dtype="uint16", target_dtype="uint16", target_ending=".tif")
    tiff = encoded(picture(48, 64, 3).astype(np.uint16) * 257, "TIFF")
    with serving(deep) as site:
        page = opened(browser, site)
        dropped = page.evaluate_handle(
            """bytes => { const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "scan.tif", { type: "image/tiff" })); return data; }""",
            list(tiff),
        )
        page.dispatch_event("article.well", "drop", {"dataTransfer": dropped})
        settled(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        whole = site.translate(tiff, name="scan.tif")
        assert Path(download.value.path()).read_bytes() == whole.body
        assert download.value.suggested_filename == "scan.tif"
        box = page.locator("canvas.photo").bounding_box()
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=2)
        changes(page, page.mouse.up)
        width = page.locator(".made").evaluate("image => image.naturalWidth")
        assert 28 <= width <= 33
        assert page.wrong == []
