"""How long it takes from the end of a stroke on the page to its picture there: the model that ships, in Chromium."""

from __future__ import annotations

import argparse
import shutil
from statistics import median, quantiles
from typing import Any

from playwright.sync_api import sync_playwright
from web_server import load, served

OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
WATCH = """
window.ends = []; window.seen = [];
addEventListener("pointerup", () => window.ends.push(performance.now()), true);
addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
  for (const { target } of changes) {
    if (target.className === "made") {
      target.decode().then(() => requestAnimationFrame(() => window.seen.push(performance.now()))).catch(() => {});
    }
  }
}).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["src"] }));
"""
PAUSE = 700
"""Milliseconds after a stroke in which its picture should be there."""


def strokes(page: Any, count: int) -> list[float]:
    """Milliseconds from the end of each of so many rectangles to its picture."""
    box, found = page.locator("canvas.board").bounding_box(), list[float]()
    for number in range(count):
        left, top = 0.1 + 0.05 * (number % 10), 0.1 + 0.07 * (number % 7)
        page.locator(".class").nth(number % 12).click()
        page.mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + (left + 0.2) * box["width"], box["y"] + (top + 0.2) * box["height"], steps=4)
        page.wait_for_timeout(PAUSE)  # what was seen on the way is there
        page.mouse.up()
        page.wait_for_timeout(PAUSE)
        end, seen = page.evaluate("[window.ends.at(-1), window.seen.at(-1)]")
        found.append(seen - end if seen > end else float("inf"))
    return found


def main() -> None:
    """Print the median and the 95th percentile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strokes", type=int, default=40)
    options, busy = parser.parse_args(), load()
    with served() as (address, _), sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(OPTIONS))
        page = chromium.new_page()
        page.add_init_script(WATCH)
        page.goto(address)
        page.locator(".output[aria-busy=false] .frame:not(.empty)").wait_for()
        strokes(page, 3)
        found = strokes(page, options.strokes)
        chromium.close()
    late = quantiles(found, n=20)[-1]
    print(f"{busy}: {options.strokes} strokes, median {median(found):.0f} ms, 95th percentile {late:.0f} ms")


if __name__ == "__main__":
    main()
