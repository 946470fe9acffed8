"""Windows: glass with a reflected sky, frames and panes, curtains, and the shade of the reveal."""

from __future__ import annotations

import numpy as np

from p2pkit.builtin.datasets.facade_drawing.canvas import Pixels, across, blend, down
from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox, PlacedPart
from p2pkit.builtin.datasets.facade_drawing.scene import Scene

CURTAINED = {"tenement", "classical", "clapboard", "riviera", "villa"}


def paint_window(scene: Scene, part: PlacedPart) -> None:
    """Paint a window set back in the wall."""
    canvas, box = scene.canvas, part.box
    frame, bar = scene.length(0.035), scene.length(0.02)
    paint_glass(scene, box, (part.variation - 128) * 0.08)
    if part.variation % 4 == 0 and scene.style.panes[1] < 4:
        _hang_curtains(scene, box.inset(frame))
    paint_bars(scene, box, scene.style.panes, bar, scene.paints["frame"])
    paint_border(scene, box, frame, scene.paints["frame"])
    canvas.dim(box.rows(0, scene.length(0.05)), 0.5)
    canvas.fade(box.rows(scene.length(0.05), scene.length(0.12)), 0.7, 1.0)
    canvas.dim(box.columns(0, scene.length(0.03)), 0.6)


def paint_glass(scene: Scene, box: PixelBox, tone: float) -> None:
    """Paint glass: bright above, dark below, with a slanting gleam."""
    view = scene.canvas.at(box)
    if view.size == 0:
        return
    fall = down(view.shape[0])
    view[:] = blend(scene.paints["glass_high"], scene.paints["glass_low"], fall * (2.0 - fall)) + tone
    slant = across(view.shape[1]) + fall * 0.6
    gleam: Pixels = np.where((slant > 0.55) & (slant < 0.85), np.float32(1.16), np.float32(1.0))
    view *= gleam


def paint_bars(scene: Scene, box: PixelBox, panes: tuple[int, int], thick: int, paint: Pixels) -> None:
    """Paint the bars between panes. Two rows of panes part high up, where a transom would be."""
    across_count, down_count = panes
    half = (thick + 1) // 2
    for number in range(1, across_count):
        middle = box.left + box.width * number // across_count
        scene.canvas.fill(PixelBox(box.top, middle - half, box.bottom, middle + half), paint)
    for number in range(1, down_count):
        share = 0.36 if down_count == 2 and across_count == 2 else number / down_count
        middle = box.top + int(box.height * share)
        scene.canvas.fill(PixelBox(middle - half, box.left, middle + half, box.right), paint)


def paint_border(scene: Scene, box: PixelBox, thick: int, paint: Pixels) -> None:
    """Paint a frame along the inside of a box."""
    canvas = scene.canvas
    canvas.fill(box.rows(0, thick), paint)
    canvas.fill(box.rows(-thick, box.height), paint)
    canvas.fill(box.columns(0, thick), paint)
    canvas.fill(box.columns(-thick, box.width), paint * 0.92)


def _hang_curtains(scene: Scene, box: PixelBox) -> None:
    wide = box.width * 3 // 10
    for side in (box.columns(0, wide), box.columns(-wide, box.width) if wide else box.columns(0, 0)):
        scene.canvas.veil(side, scene.paints["trim"], 0.6)
        for fold in range(side.left, side.right, 4):
            scene.canvas.dim(PixelBox(side.top, fold, side.bottom, min(fold + 2, side.right)), 0.86)
