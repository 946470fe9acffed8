"""A facade as a plan of labelled boxes: what stands where, before anything is painted."""

from __future__ import annotations

from collections.abc import Callable

from p2pkit.builtin.datasets.facade_drawing.geometry import Box, Plan
from p2pkit.builtin.datasets.facade_drawing.ground_floor import add_ground_floor
from p2pkit.builtin.datasets.facade_drawing.openings import add_balconies, add_upper_windows
from p2pkit.builtin.datasets.facade_drawing.palette import Label
from p2pkit.builtin.datasets.facade_drawing.priors import PRIORS, Priors
from p2pkit.builtin.datasets.facade_drawing.rng import Rng
from p2pkit.builtin.datasets.facade_drawing.styles import STYLES

TOP_HEIGHTS = {"flat": 0.0, "parapet": 0.24, "attic": 0.52}
STYLE_NAMES: tuple[str, ...] = tuple(PRIORS)


def style_of(index: int, rng_of_block: Callable[[int], Rng]) -> str:
    """The style of a facade: each block of as many facades as there are styles has all of them, in a random order.

    So a small data set has its share of every style, and a test split the styles of the training split.
    """
    block, place = divmod(index, len(STYLE_NAMES))
    rng, left = rng_of_block(block), list(STYLE_NAMES)
    order = [left.pop(rng.whole(0, len(left) - 1)) for _ in STYLE_NAMES]
    return order[place]


def lay_out(style: str, rng: Rng, aspect: float) -> Plan:
    """A facade for a picture of height 1 and width ``aspect``."""
    priors = PRIORS[style]
    top = rng.pick(priors.tops)
    plan = _outline(style, priors, top, rng, aspect)
    plan.add(Label.FACADE, plan.walls, "wall")
    plan.add(Label.FACADE, plan.walls._replace(top=plan.floor_lines[-2]), "ground wall")
    _add_moldings(plan, rng.pick(priors.moldings))
    add_upper_windows(plan, priors, rng)
    add_ground_floor(plan, priors, rng)
    _add_pillars(plan, rng.pick(priors.pillars))
    add_balconies(plan, priors, rng)
    _add_cornice(plan, top, rng)
    return plan


def _outline(style: str, priors: Priors, top: str, rng: Rng, aspect: float) -> Plan:
    floors = rng.whole(*priors.floors)
    ground = rng.between(*priors.ground_height)
    cornice = rng.between(*priors.cornice)
    sky = rng.between(0.02, 0.13)
    street = rng.between(0.06, 0.11)
    left = 0.0 if rng.flip(0.3) else rng.between(0.05, 0.15) * aspect
    right = 0.0 if rng.flip(0.3) else rng.between(0.05, 0.15) * aspect
    above = max(TOP_HEIGHTS[top], STYLES[style].roof_height)
    unit = (1.0 - sky - street) / (floors - 1 + ground + cornice + above)
    walls = Box(sky + above * unit, left, 1.0 - street, aspect - right)

    lines = [walls.top + cornice * unit + floor * unit for floor in range(floors)] + [walls.bottom]
    edge = rng.between(0.05, 0.16) * unit
    span = walls.width - 2 * edge
    bays = max(1, int(span / (rng.between(*priors.bay_width) * unit) + 0.5))
    bay_lines = [walls.left + edge + span * bay / bays for bay in range(bays + 1)]
    return Plan(style, walls, unit, lines, bay_lines)


def _add_moldings(plan: Plan, pattern: str) -> None:
    lines = {"none": [], "ground": plan.floor_lines[-2:-1], "every": plan.floor_lines[1:-1]}[pattern]
    for line in lines:
        thick = 0.07 if line == plan.floor_lines[-2] else 0.045
        box = Box(line - thick * plan.unit, plan.walls.left, line + thick * plan.unit, plan.walls.right)
        plan.add(Label.MOLDING, box)


def _add_pillars(plan: Plan, pattern: str) -> None:
    lines = plan.bay_lines
    middle = (len(lines) - 1) // 2
    chosen = {
        "none": [],
        "ends": [lines[0], lines[-1]],
        "every": lines,
        "centre": [lines[0], lines[middle], lines[middle + 1 if len(lines) > middle + 1 else -1], lines[-1]],
    }[pattern]
    half = (0.09 if plan.style == "loft" else 0.07) * plan.unit
    bottom = plan.floor_lines[-2] if plan.style == "classical" else plan.walls.bottom
    for line in sorted(set(chosen)):
        centre = min(max(line, plan.walls.left + half), plan.walls.right - half)
        plan.add(Label.PILLAR, Box(plan.floor_lines[0], centre - half, bottom, centre + half))


def _add_cornice(plan: Plan, top: str, rng: Rng) -> None:
    walls, unit = plan.walls, plan.unit
    cornice = Box(walls.top, walls.left, plan.floor_lines[0], walls.right)
    height = TOP_HEIGHTS[top] * unit
    crest = Box(walls.top - height, walls.left, walls.top, walls.right)
    if top == "attic":
        half = walls.width * rng.between(0.14, 0.24)
        centre = (walls.left + walls.right) / 2
        crest = crest._replace(left=centre - half, right=centre + half)
    if top != "flat":
        lip = 0.1 * unit if top == "attic" else 0.06 * unit
        plan.add(Label.FACADE, crest, "crest")
        plan.add(Label.CORNICE, crest._replace(bottom=crest.top + lip), "lip")
    if top == "attic":
        plan.add(
            Label.DECO,
            Box(crest.top + 0.18 * unit, crest.left + half / 2, crest.bottom - 0.08 * unit, crest.right - half / 2),
            "plaque",
        )
    plan.add(Label.CORNICE, cornice, "dentils" if cornice.height > 0.17 * unit else "plain")
