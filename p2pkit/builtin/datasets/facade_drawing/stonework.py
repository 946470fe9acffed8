"""What stands proud of the wall: cornices, moldings, sills, pillars and decorations."""

from __future__ import annotations

from p2pkit.builtin.datasets.facade_drawing.canvas import across, down
from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox, PlacedPart
from p2pkit.builtin.datasets.facade_drawing.scene import Scene


def paint_cornice(scene: Scene, part: PlacedPart) -> None:
    """Paint a cornice: a lit lip, a shaded hollow, dentils where there is room, a deep shadow below."""
    canvas, box = scene.canvas, part.box
    lip = max(1, box.height // 4)
    scene.cast_shadow(box, scene.length(0.05 if part.form == "lip" else 0.16), 0.5, edge=box.right)
    canvas.fill(box, scene.paints["trim"])
    canvas.fade(box.rows(lip, box.height), 0.72, 0.9)
    canvas.fade(box.rows(0, lip), 1.12, 1.0)
    if part.form == "dentils":
        pitch, tooth = scene.length(0.13), scene.length(0.065)
        band = box.rows(box.height // 2, box.height - max(1, box.height // 8))
        canvas.dim(band, 0.72)
        for left in range(band.left + tooth // 2, band.right - tooth, pitch):
            canvas.dim(PixelBox(band.top, left, band.bottom, left + tooth), 1.45)
    canvas.dim(box.rows(-max(1, box.height // 8), box.height), 0.8)


def paint_molding(scene: Scene, part: PlacedPart) -> None:
    """Paint a band along a floor line."""
    canvas, box = scene.canvas, part.box
    scene.cast_shadow(box, scene.length(0.06), 0.42)
    canvas.fill(box, scene.paints["trim"] * 0.97)
    canvas.fade(box, 1.1, 0.8)


def paint_sill(scene: Scene, part: PlacedPart) -> None:
    """Paint a sill, its shadow and the streak that rain leaves under it."""
    canvas, box = scene.canvas, part.box
    canvas.fade(PixelBox(box.bottom, box.left, box.bottom + scene.length(0.22), box.right), 0.88, 1.0)
    scene.cast_shadow(box, scene.length(0.07), 0.5)
    canvas.fill(box, scene.paints["trim"])
    canvas.fade(box, 1.08, 0.82)


def paint_pillar(scene: Scene, part: PlacedPart) -> None:
    """Paint a pilaster: round in section, with a capital and a base."""
    canvas, box = scene.canvas, part.box
    scene.cast_shadow(box, scene.length(0.05), 0.45)
    view = canvas.at(box)
    if view.size == 0:
        return
    share = across(box.width)
    view[:] = scene.paints["trim"] * (1.1 - 0.12 * share - 0.22 * share * share)
    view *= 1.02 - 0.08 * down(box.height)
    for cap in (box.rows(0, scene.length(0.12)), box.rows(-scene.length(0.16), box.height)):
        canvas.fade(cap, 1.08, 0.88)
        canvas.dim(cap.rows(-1, cap.height), 0.75)


def paint_deco(scene: Scene, part: PlacedPart) -> None:
    """Paint a decoration: a lintel with a keystone, a pediment, a cap, or a panel."""
    canvas, box = scene.canvas, part.box
    if part.form == "pediment":
        _paint_pediment(scene, box)
        return
    scene.cast_shadow(box, scene.length(0.035), 0.4)
    canvas.fill(box, scene.paints["trim"])
    if part.form in ("panel", "plaque"):
        canvas.dim(box, 0.94)
        canvas.relief(box, 1, 1.06, 0.84)
        inner = box.inset(max(1, min(box.height, box.width) // 5))
        if inner.height > 1 and inner.width > 1:
            canvas.dim(inner, 0.86)
            canvas.relief(inner, 1, 0.8, 1.16)
    else:
        canvas.fade(box, 1.06, 0.86)
    if part.form == "lintel":
        middle, half = (box.left + box.right) // 2, scene.length(0.04)
        key = PixelBox(box.top, middle - half, box.bottom, middle + half)
        canvas.fill(key, scene.paints["trim"] * 1.06)
        canvas.dim(key.columns(-1, key.width), 0.7)


def _paint_pediment(scene: Scene, box: PixelBox) -> None:
    canvas, paint = scene.canvas, scene.paints["trim"]
    base = max(1, box.height // 4)
    middle, half = (box.left + box.right) / 2, box.width / 2
    slope = box.rows(0, max(1, box.height - base))
    for row in range(slope.height):
        reach = int(half * (row + 1) / slope.height + 0.5)
        left, right = int(middle - reach), int(middle + reach)
        edge = max(2, int(half * 2.5 / slope.height + 0.5))
        top = slope.top + row
        canvas.fill(PixelBox(top, left, top + 1, right), paint * 0.8)
        canvas.fill(PixelBox(top, left, top + 1, min(left + edge, right)), paint * 1.05)
        canvas.fill(PixelBox(top, max(right - edge, left), top + 1, right), paint * 0.93)
        canvas.dim(PixelBox(top, right, top + 1, right + 2), 0.8)
    foot = box.rows(-base, box.height)
    scene.cast_shadow(foot, scene.length(0.05), 0.45)
    canvas.fill(foot, paint)
    canvas.fade(foot, 1.06, 0.85)
