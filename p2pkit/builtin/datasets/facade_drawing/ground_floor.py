"""The ground floor: doors, shop fronts and windows between them."""

from __future__ import annotations

from p2pkit.builtin.datasets.facade_drawing.geometry import Box, Plan
from p2pkit.builtin.datasets.facade_drawing.openings import add_blind, add_window
from p2pkit.builtin.datasets.facade_drawing.palette import Label
from p2pkit.builtin.datasets.facade_drawing.priors import Priors
from p2pkit.builtin.datasets.facade_drawing.rng import Rng


def add_ground_floor(plan: Plan, priors: Priors, rng: Rng) -> None:
    """Add what fills the bays of the ground floor."""
    bays = len(plan.bay_lines) - 1
    mode = rng.pick(priors.ground)
    doors = _door_bays(plan.style, bays, rng)
    bay = 0
    while bay < bays:
        run = rng.whole(1, 3)
        shop = mode == "shops" or (mode == "mixed" and rng.flip(0.5))
        if bay in doors:
            _add_door(plan, priors, bay, rng)
            bay += 1
        elif shop:
            last = bay
            while last + 1 < bays and last + 1 not in doors and last + 1 - bay < run:
                last += 1
            _add_shop(plan, bay, last, rng)
            bay = last + 1
        else:
            _add_ground_window(plan, priors, bay, rng)
            bay += 1


def _door_bays(style: str, bays: int, rng: Rng) -> set[int]:
    first = bays // 2 if style == "classical" else rng.whole(0, bays - 1)
    second = rng.whole(0, bays - 1)
    return {first, second} if bays >= 7 else {first}


def _add_door(plan: Plan, priors: Priors, bay: int, rng: Rng) -> None:
    left, right = plan.bay_lines[bay], plan.bay_lines[bay + 1]
    ground_top, foot = plan.floor_lines[-2], plan.walls.bottom
    half = min(priors.door_width * plan.unit, 0.8 * (right - left)) / 2
    centre = (left + right) / 2
    door = Box(ground_top + 0.26 * (foot - ground_top), centre - half, foot, centre + half)
    plan.add(Label.DOOR, door, priors.door, rng.whole(0, 255))
    if priors.decos[0] != "none":
        reach = 0.06 * plan.unit
        plan.add(Label.DECO, Box(door.top - 0.1 * plan.unit, door.left - reach, door.top, door.right + reach), "cap")


def _add_shop(plan: Plan, first: int, last: int, rng: Rng) -> None:
    margin = 0.07 * plan.unit
    ground_top, foot = plan.floor_lines[-2], plan.walls.bottom
    box = Box(
        ground_top + 0.14 * (foot - ground_top), plan.bay_lines[first] + margin, foot, plan.bay_lines[last + 1] - margin
    )
    plan.add(Label.SHOP, box, "awning" if rng.flip(0.5) else "sign", rng.whole(0, 255))


def _add_ground_window(plan: Plan, priors: Priors, bay: int, rng: Rng) -> None:
    left, right = plan.bay_lines[bay], plan.bay_lines[bay + 1]
    ground_top, foot = plan.floor_lines[-2], plan.walls.bottom
    half = (right - left) * priors.window_width[0] / 2
    centre = (left + right) / 2
    top = ground_top + 0.24 * (foot - ground_top)
    bottom = min(foot - 0.2 * plan.unit, top + priors.window_height[0] * plan.unit)
    window = Box(top, centre - half, bottom, centre + half)
    add_window(plan, window, priors, "none", rng)
    if priors.blind == "shutters":
        add_blind(plan, window, priors.blind, 0.2, rng)
