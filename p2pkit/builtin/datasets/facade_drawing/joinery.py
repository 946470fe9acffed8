"""What carpenters and smiths made: doors, blinds and shutters, balconies."""

from __future__ import annotations

from p2pkit.builtin.datasets.facade_drawing.canvas import down
from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox, PlacedPart
from p2pkit.builtin.datasets.facade_drawing.glazing import paint_bars, paint_border, paint_glass
from p2pkit.builtin.datasets.facade_drawing.scene import Scene


def paint_door(scene: Scene, part: PlacedPart) -> None:
    """Paint a door: panelled with a fanlight, glazed, or a gate of boards."""
    canvas, box, paint = scene.canvas, part.box, scene.paints["door"]
    light = box.rows(0, box.height // 5)
    leaf = box.rows(box.height // 5, box.height)
    frame = scene.length(0.04)
    if part.form == "glazed":
        paint_glass(scene, box, -8.0)
        paint_bars(scene, box, (2, 1), frame, paint)
        paint_border(scene, box, frame, paint)
        canvas.fill(box.rows(-scene.length(0.1), box.height), paint)
    else:
        canvas.fill(leaf, paint)
        paint_glass(scene, light, 0.0)
        paint_border(scene, box, frame, paint * 1.15)
        canvas.fill(light.rows(-max(1, frame // 2), light.height), paint * 1.15)
        _panel(scene, leaf.inset(frame), part.form)
    canvas.dim(box.rows(0, scene.length(0.06)), 0.5)
    canvas.dim(box.columns(0, scene.length(0.04)), 0.6)
    canvas.fade(box.rows(-scene.length(0.08), box.height), 0.95, 0.65)


def _panel(scene: Scene, leaf: PixelBox, form: str) -> None:
    canvas = scene.canvas
    middle = leaf.left + leaf.width // 2
    if form == "gate":
        for left in range(leaf.left, leaf.right, scene.length(0.06) + 1):
            canvas.dim(PixelBox(leaf.top, left, leaf.bottom, left + 1), 0.7)
    else:
        gap = max(1, leaf.width // 12)
        edges = (leaf.top + gap, leaf.top + leaf.height * 55 // 100, leaf.bottom - gap)
        for left, right in ((leaf.left, middle), (middle, leaf.right)):
            for top, bottom in ((edges[0], edges[1] - gap), (edges[1], edges[2])):
                panel = PixelBox(top, left + gap, bottom, right - gap)
                canvas.dim(panel, 0.86)
                canvas.relief(panel, 1, 0.75, 1.3)
        knob = leaf.top + leaf.height // 2
        canvas.dim(PixelBox(knob, middle + gap, knob + 2, middle + gap + 2), 2.2)
    canvas.dim(PixelBox(leaf.top, middle - 1, leaf.bottom, middle + 1), 0.55)


def paint_blind(scene: Scene, part: PlacedPart) -> None:
    """Paint a roller blind, an open shutter leaf, or a pair of closed shutters."""
    canvas, box, paint = scene.canvas, part.box, scene.paints["blind"]
    if part.form == "leaf":
        scene.cast_shadow(box, scene.length(0.04), 0.45)
    canvas.fill(box, paint)
    slat = max(3, scene.length(0.05))
    for top in range(box.top, box.bottom, slat):
        canvas.dim(PixelBox(top, box.left, min(top + max(1, slat // 3), box.bottom), box.right), 0.78)
    if part.form == "roller":
        canvas.dim(box.rows(0, scene.length(0.06)), 0.6)
        canvas.dim(box.columns(0, scene.length(0.03)), 0.7)
        canvas.fill(box.rows(-scene.length(0.025), box.height), paint * 0.7)
        return
    stile = scene.length(0.025)
    leaves = [box] if part.form == "leaf" else [box.columns(0, box.width // 2), box.columns(box.width // 2, box.width)]
    for leaf in leaves:
        paint_border(scene, leaf, stile, paint * 1.1)
        canvas.dim(leaf.columns(-1, leaf.width), 0.7)


def paint_balcony(scene: Scene, part: PlacedPart) -> None:
    """Paint a balcony: a slab with its shadow on the wall, and a parapet to see through or not."""
    canvas, box, paint = scene.canvas, part.box, scene.paints["rail"]
    slab = scene.length(0.07)
    front, floor = box.rows(0, max(1, box.height - slab)), box.rows(-slab, box.height)
    scene.cast_shadow(floor, scene.length(0.2), 0.5)
    if part.form == "iron":
        _bars(scene, front, scene.length(0.075), 1)
    elif part.form == "stone":
        _bars(scene, front, scene.length(0.09), scene.length(0.05))
    elif part.form == "glass":
        canvas.veil(front, paint, 0.6)
        canvas.fade(front, 1.15, 0.9)
        for post in range(front.left, front.right, scene.length(0.4)):
            canvas.dim(PixelBox(front.top, post, front.bottom, post + 1), 0.6)
    else:
        view = canvas.at(front)
        view[:] = paint * (1.06 - 0.16 * down(view.shape[0]))
        for joint in range(front.left, front.right, scene.length(0.3)):
            canvas.dim(PixelBox(front.top, joint, front.bottom, joint + 1), 0.8)
    canvas.fill(front.rows(0, scene.length(0.035)), paint * 1.1)
    canvas.fill(floor, scene.paints["trim"] * 0.95)
    canvas.fade(floor, 1.06, 0.62)


def _bars(scene: Scene, front: PixelBox, pitch: int, thick: int) -> None:
    canvas, paint = scene.canvas, scene.paints["rail"]
    canvas.dim(front, 0.82)
    pitch = max(pitch, thick + 2)
    for left in range(front.left, front.right - thick + 1, pitch):
        canvas.fill(PixelBox(front.top, left, front.bottom, left + thick), paint)
    canvas.fill(front.columns(-max(1, thick), front.width), paint)
    canvas.fill(front.rows(-2, front.height), paint)
