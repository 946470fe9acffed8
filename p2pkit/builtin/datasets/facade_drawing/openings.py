"""The windows of the upper floors and what goes with them: sills, decorations, blinds, balconies."""

from __future__ import annotations

from p2pkit.builtin.datasets.facade_drawing.geometry import Box, Plan
from p2pkit.builtin.datasets.facade_drawing.palette import Label
from p2pkit.builtin.datasets.facade_drawing.priors import Priors
from p2pkit.builtin.datasets.facade_drawing.rng import Rng


def add_upper_windows(plan: Plan, priors: Priors, rng: Rng) -> None:
    """Add the windows above the ground floor."""
    width = rng.between(*priors.window_width)
    height = rng.between(*priors.window_height)
    deco = rng.pick(priors.decos)
    blinds = rng.between(*priors.blind_share)
    for floor_line in plan.floor_lines[1:-1]:
        foot = floor_line - priors.window_foot * plan.unit
        for left, right in zip(plan.bay_lines, plan.bay_lines[1:], strict=False):
            half = (right - left) * width / 2
            centre = (left + right) / 2
            window = Box(foot - height * plan.unit, centre - half, foot, centre + half)
            add_window(plan, window, priors, deco, rng)
            add_blind(plan, window, priors.blind, blinds, rng)


def add_window(plan: Plan, window: Box, priors: Priors, deco: str, rng: Rng) -> None:
    """Add one window with its sill and its decoration."""
    unit = plan.unit
    plan.add(Label.WINDOW, window, variation=rng.whole(0, 255))
    if priors.sill:
        reach = 0.05 * unit
        sill = Box(window.bottom, window.left - reach, window.bottom + priors.sill * unit, window.right + reach)
        plan.add(Label.SILL, sill)
    if deco == "panel":
        foot = window.bottom + priors.sill * unit
        plan.add(Label.DECO, Box(foot + 0.03 * unit, window.left, foot + 0.12 * unit, window.right), deco)
    elif deco != "none":
        tall, reach = {"lintel": (0.1, 0.04), "pediment": (0.15, 0.08), "cap": (0.08, 0.06)}[deco]
        box = Box(window.top - tall * unit, window.left - reach * unit, window.top, window.right + reach * unit)
        plan.add(Label.DECO, box, deco)


def add_blind(plan: Plan, window: Box, form: str, share: float, rng: Rng) -> None:
    """Add a roller blind to some windows, or shutters to all: a share of those is closed."""
    drawn = rng.flip(share)
    length = rng.pick((0.3, 0.45, 0.65, 1.0))
    if form == "roller" and drawn:
        plan.add(Label.BLIND, window._replace(bottom=window.top + length * window.height), form)
    elif form == "shutters" and drawn:
        plan.add(Label.BLIND, window, "closed")
    elif form == "shutters":
        leaf, gap = window.width * 0.52, 0.012 * plan.unit
        plan.add(Label.BLIND, window._replace(left=window.left - gap - leaf, right=window.left - gap), "leaf")
        plan.add(Label.BLIND, window._replace(left=window.right + gap, right=window.right + gap + leaf), "leaf")


def add_balconies(plan: Plan, priors: Priors, rng: Rng) -> None:
    """Add balconies in one of the patterns of the style."""
    pattern = rng.pick(priors.balconies)
    floors = plan.floor_lines[1:-1]
    bays = list(zip(plan.bay_lines, plan.bay_lines[1:], strict=False))
    middle, start, step = len(bays) // 2, rng.whole(0, 1), rng.whole(2, 3)
    long_floor = rng.whole(0, max(0, len(floors) - 1))
    for number, line in enumerate(floors):
        if pattern == "row" and number == long_floor:
            _add_balcony(plan, line, plan.bay_lines[0], plan.bay_lines[-1], priors.balcony_form)
        for bay, (left, right) in enumerate(bays):
            scattered = rng.flip(0.3)
            wanted = {
                "every": True,
                "columns": bay % step == start or len(bays) == 1,
                "centre": bay == middle,
                "scatter": scattered,
            }.get(pattern, False)
            if wanted:
                margin = (right - left) * (0.2 if priors.balcony_form == "stone" else 0.1)
                _add_balcony(plan, line, left + margin, right - margin, priors.balcony_form)


def _add_balcony(plan: Plan, floor_line: float, left: float, right: float, form: str) -> None:
    tall = {"iron": 0.36, "stone": 0.3, "panel": 0.4, "glass": 0.38}[form]
    plan.add(Label.BALCONY, Box(floor_line - tall * plan.unit, left, floor_line + 0.03 * plan.unit, right), form)
