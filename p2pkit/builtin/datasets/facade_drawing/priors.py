"""How the builders of each style lay out a facade. Lengths are fractions of a storey's height unless noted otherwise.

The styles keep apart in what a label map shows (proportions of windows, what goes with them, pillars, bands), so that
a network can learn from the labels which materials and colours the photo has.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Priors:
    """The ranges and options that one style chooses from; of a tuple of words, one is picked for each facade."""

    floors: tuple[int, int]
    bay_width: tuple[float, float]
    window_width: tuple[float, float]
    """As a fraction of the bay's width."""
    window_height: tuple[float, float]
    window_foot: float
    """From the floor line up to the window."""
    ground_height: tuple[float, float]
    cornice: tuple[float, float]
    sill: float = 0.0
    decos: tuple[str, ...] = ("none",)
    moldings: tuple[str, ...] = ("none",)
    pillars: tuple[str, ...] = ("none",)
    balconies: tuple[str, ...] = ("none",)
    balcony_form: str = "iron"
    blind: str = "none"
    blind_share: tuple[float, float] = (0.0, 0.0)
    ground: tuple[str, ...] = ("windows",)
    door: str = "panelled"
    door_width: float = 0.36
    tops: tuple[str, ...] = ("flat",)


PRIORS: dict[str, Priors] = {
    "tenement": Priors(
        floors=(3, 5),
        bay_width=(0.62, 0.74),
        window_width=(0.46, 0.54),
        window_height=(0.56, 0.62),
        window_foot=0.24,
        ground_height=(1.05, 1.2),
        cornice=(0.3, 0.42),
        sill=0.06,
        decos=("lintel",),
        moldings=("ground", "ground", "none"),
        blind="roller",
        blind_share=(0.0, 0.15),
        ground=("shops", "windows", "mixed"),
        door_width=0.36,
        tops=("flat", "flat", "attic"),
    ),
    "classical": Priors(
        floors=(3, 5),
        bay_width=(0.74, 0.9),
        window_width=(0.38, 0.44),
        window_height=(0.54, 0.6),
        window_foot=0.2,
        ground_height=(1.15, 1.35),
        cornice=(0.2, 0.3),
        sill=0.05,
        decos=("pediment",),
        moldings=("every",),
        pillars=("every", "centre"),
        balconies=("centre", "row", "none"),
        balcony_form="stone",
        ground=("windows", "windows", "mixed"),
        door_width=0.44,
        tops=("attic", "parapet", "flat"),
    ),
    "concrete": Priors(
        floors=(4, 7),
        bay_width=(1.25, 1.55),
        window_width=(0.66, 0.78),
        window_height=(0.42, 0.5),
        window_foot=0.32,
        ground_height=(1.0, 1.2),
        cornice=(0.1, 0.16),
        balconies=("columns", "scatter", "none"),
        balcony_form="panel",
        blind="roller",
        blind_share=(0.1, 0.4),
        ground=("shops", "windows", "mixed"),
        door="glazed",
        door_width=0.5,
    ),
    "riviera": Priors(
        floors=(2, 4),
        bay_width=(0.92, 1.15),
        window_width=(0.27, 0.32),
        window_height=(0.5, 0.58),
        window_foot=0.2,
        ground_height=(1.0, 1.15),
        cornice=(0.08, 0.12),
        sill=0.035,
        moldings=("none", "ground"),
        balconies=("scatter", "centre", "none"),
        blind="shutters",
        blind_share=(0.12, 0.3),
        ground=("windows", "mixed", "windows"),
        door_width=0.38,
    ),
    "clapboard": Priors(
        floors=(2, 4),
        bay_width=(0.62, 0.76),
        window_width=(0.54, 0.62),
        window_height=(0.46, 0.52),
        window_foot=0.26,
        ground_height=(1.0, 1.15),
        cornice=(0.16, 0.24),
        sill=0.08,
        decos=("panel", "panel", "cap"),
        moldings=("ground",),
        pillars=("ends",),
        ground=("shops", "mixed", "windows"),
        door_width=0.36,
        tops=("attic", "flat", "parapet"),
    ),
    "loft": Priors(
        floors=(3, 5),
        bay_width=(0.95, 1.2),
        window_width=(0.68, 0.76),
        window_height=(0.64, 0.72),
        window_foot=0.14,
        ground_height=(1.05, 1.25),
        cornice=(0.12, 0.18),
        sill=0.05,
        pillars=("every",),
        moldings=("none", "ground"),
        ground=("windows", "mixed", "shops"),
        door="gate",
        door_width=0.62,
        tops=("parapet", "parapet", "flat"),
    ),
    "villa": Priors(
        floors=(2, 4),
        bay_width=(0.9, 1.2),
        window_width=(0.56, 0.7),
        window_height=(0.7, 0.76),
        window_foot=0.05,
        ground_height=(1.0, 1.1),
        cornice=(0.07, 0.1),
        balconies=("every", "row", "columns"),
        balcony_form="glass",
        blind="roller",
        blind_share=(0.2, 0.5),
        ground=("windows", "mixed"),
        door="glazed",
        door_width=0.42,
        tops=("flat", "parapet"),
    ),
}
"""The priors of each style, by its name."""
