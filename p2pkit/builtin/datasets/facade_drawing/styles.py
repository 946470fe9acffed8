"""The materials and colours of each style, red, green and blue from 0 to 255."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """What one style is made of. The sky goes from ``sky_high`` at the top of the picture to ``sky_low``."""

    material: str
    courses: int
    """Rows of bricks, boards or blocks in one storey."""
    wall: Colour
    ground_wall: Colour
    trim: Colour
    frame: Colour
    glass_high: Colour
    glass_low: Colour
    panes: tuple[int, int]
    """Panes across and down."""
    door: Colour
    blind: Colour
    rail: Colour
    sign: Colour
    roof: Colour
    roof_height: float
    """As a fraction of a storey; no roof shows where it is 0."""
    sky_high: Colour
    sky_low: Colour
    neighbour: Colour
    pavement: Colour


STYLES: dict[str, Style] = {
    "tenement": Style(
        material="brick",
        courses=9,
        wall=(158, 76, 58),
        ground_wall=(128, 74, 62),
        trim=(214, 196, 168),
        frame=(232, 226, 212),
        glass_high=(104, 122, 138),
        glass_low=(44, 48, 54),
        panes=(2, 2),
        door=(58, 78, 58),
        blind=(216, 206, 180),
        rail=(40, 40, 44),
        sign=(62, 84, 66),
        roof=(92, 88, 90),
        roof_height=0.0,
        sky_high=(148, 176, 206),
        sky_low=(206, 216, 222),
        neighbour=(126, 96, 84),
        pavement=(138, 134, 128),
    ),
    "classical": Style(
        material="stucco",
        courses=4,
        wall=(226, 206, 154),
        ground_wall=(196, 180, 146),
        trim=(242, 236, 220),
        frame=(246, 244, 236),
        glass_high=(128, 146, 160),
        glass_low=(58, 62, 66),
        panes=(2, 3),
        door=(94, 58, 36),
        blind=(226, 220, 200),
        rail=(234, 228, 212),
        sign=(88, 50, 44),
        roof=(96, 108, 116),
        roof_height=0.5,
        sky_high=(92, 142, 206),
        sky_low=(184, 210, 232),
        neighbour=(190, 170, 142),
        pavement=(172, 164, 150),
    ),
    "concrete": Style(
        material="panels",
        courses=1,
        wall=(142, 146, 150),
        ground_wall=(112, 116, 120),
        trim=(168, 170, 172),
        frame=(72, 76, 82),
        glass_high=(126, 164, 182),
        glass_low=(56, 84, 98),
        panes=(3, 1),
        door=(74, 82, 92),
        blind=(204, 206, 206),
        rail=(176, 124, 88),
        sign=(36, 88, 138),
        roof=(90, 92, 94),
        roof_height=0.0,
        sky_high=(176, 184, 192),
        sky_low=(212, 216, 218),
        neighbour=(120, 120, 122),
        pavement=(122, 124, 126),
    ),
    "riviera": Style(
        material="render",
        courses=3,
        wall=(214, 142, 68),
        ground_wall=(190, 122, 64),
        trim=(236, 208, 160),
        frame=(206, 186, 150),
        glass_high=(86, 104, 120),
        glass_low=(38, 40, 44),
        panes=(2, 2),
        door=(86, 66, 50),
        blind=(52, 104, 78),
        rail=(38, 36, 38),
        sign=(176, 62, 44),
        roof=(176, 84, 54),
        roof_height=0.34,
        sky_high=(52, 118, 204),
        sky_low=(150, 196, 234),
        neighbour=(206, 168, 124),
        pavement=(198, 180, 150),
    ),
    "clapboard": Style(
        material="boards",
        courses=11,
        wall=(104, 150, 156),
        ground_wall=(96, 138, 146),
        trim=(240, 240, 236),
        frame=(246, 246, 242),
        glass_high=(112, 132, 150),
        glass_low=(50, 56, 64),
        panes=(1, 2),
        door=(150, 46, 44),
        blind=(226, 226, 220),
        rail=(230, 230, 226),
        sign=(38, 58, 92),
        roof=(84, 86, 94),
        roof_height=0.4,
        sky_high=(120, 164, 212),
        sky_low=(200, 218, 230),
        neighbour=(158, 152, 136),
        pavement=(150, 150, 146),
    ),
    "loft": Style(
        material="brick",
        courses=10,
        wall=(88, 62, 56),
        ground_wall=(74, 58, 56),
        trim=(124, 108, 98),
        frame=(34, 36, 38),
        glass_high=(150, 164, 168),
        glass_low=(84, 92, 94),
        panes=(4, 4),
        door=(60, 66, 70),
        blind=(160, 156, 146),
        rail=(34, 36, 38),
        sign=(196, 150, 54),
        roof=(70, 70, 72),
        roof_height=0.0,
        sky_high=(170, 172, 182),
        sky_low=(224, 212, 198),
        neighbour=(92, 84, 82),
        pavement=(108, 106, 106),
    ),
    "villa": Style(
        material="plaster",
        courses=2,
        wall=(236, 234, 228),
        ground_wall=(224, 222, 216),
        trim=(244, 243, 240),
        frame=(54, 56, 60),
        glass_high=(146, 184, 208),
        glass_low=(86, 116, 132),
        panes=(2, 1),
        door=(128, 88, 56),
        blind=(186, 182, 176),
        rail=(158, 190, 198),
        sign=(60, 62, 66),
        roof=(120, 120, 122),
        roof_height=0.0,
        sky_high=(70, 136, 216),
        sky_low=(176, 212, 240),
        neighbour=(196, 196, 192),
        pavement=(186, 186, 184),
    ),
}
"""The materials and colours of each style, by its name."""
