"""What stands behind and before the facade: sky, roof, neighbouring houses, pavement and road."""

from __future__ import annotations

from p2pkit.builtin.datasets.facade_drawing.canvas import blend, down
from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox
from p2pkit.builtin.datasets.facade_drawing.scene import Scene


def paint_backdrop(scene: Scene) -> None:
    """Paint all that a label map calls background."""
    height, width = scene.canvas.pixels.shape[:2]
    share = down(height)
    scene.canvas.pixels[:] = blend(scene.paints["sky_high"], scene.paints["sky_low"], share * (2.0 - share))
    walls = scene.walls
    drop = (walls.bottom - walls.top) // 9
    _paint_neighbour(scene, PixelBox(walls.top + drop, 0, walls.bottom, walls.left), 1.0)
    _paint_neighbour(scene, PixelBox(walls.top + 2 * drop, walls.right, walls.bottom, width), 0.86)
    _paint_roof(scene)
    _paint_street(scene, PixelBox(walls.bottom, 0, height, width))


def _paint_neighbour(scene: Scene, box: PixelBox, light: float) -> None:
    canvas, paints = scene.canvas, scene.paints
    if box.width < 2:
        return
    canvas.fill(box, paints["neighbour"] * light)
    canvas.fade(box, 1.05, 0.85)
    canvas.fill(box.rows(0, scene.length(0.1)), paints["neighbour"] * (0.7 * light))
    half, pitch = scene.length(0.17), scene.length(0.85)
    near_left = box.left > 0
    for upper, lower in zip(scene.floor_lines, scene.floor_lines[1:], strict=False):
        top, bottom = upper + (lower - upper) // 4, lower - (lower - upper) // 4
        centre = box.left + pitch // 2 if near_left else box.right - pitch // 2
        while top > box.top + half and box.left + half < centre < box.right - half:
            pane = PixelBox(top, centre - half, bottom, centre + half)
            canvas.fill(pane, blend(paints["neighbour"], paints["glass_low"], 0.7) * light)
            canvas.fade(pane, 1.2, 0.9)
            centre += pitch if near_left else -pitch
    if near_left:
        shade = scene.length(0.3)
        canvas.dim(box.columns(0, shade), 0.72)
        canvas.dim(box.columns(0, shade // 2), 0.86)
    else:
        canvas.dim(box.columns(-scene.length(0.05), box.width), 0.75)


def _paint_roof(scene: Scene) -> None:
    tall = scene.length(scene.style.roof_height) if scene.style.roof_height else 0
    walls = scene.walls
    courses = 5
    slopes_left, slopes_right = walls.left > 0, walls.right < scene.canvas.pixels.shape[1]
    for row in range(tall):
        inset = (tall - row) * 2 // 5
        left, right = walls.left + inset * slopes_left, walls.right - inset * slopes_right
        line = PixelBox(walls.top - tall + row, left, walls.top - tall + row + 1, right)
        phase = (row * courses) % tall * 4 // tall
        light = (0.82, 1.04, 1.0, 0.94)[phase] * (0.9 + 0.15 * row / tall)
        scene.canvas.fill(line, scene.paints["roof"] * light)


def _paint_street(scene: Scene, box: PixelBox) -> None:
    canvas = scene.canvas
    pavement = scene.paints["pavement"]
    canvas.fill(box, pavement)
    kerb = box.height * 55 // 100
    walk, road = box.rows(0, kerb), box.rows(kerb, box.height)
    canvas.fade(walk, 0.88, 1.06)
    pitch = scene.length(0.45)
    for joint in range(walk.left + pitch // 2, walk.right, pitch):
        canvas.dim(PixelBox(walk.top, joint, walk.bottom, joint + 1), 0.88)
    canvas.fill(road, pavement * 0.0 + 78.0)
    canvas.fade(road, 0.85, 1.1)
    canvas.fill(road.rows(0, max(1, box.height // 12)), pavement * 1.12)
    foot = PixelBox(box.top, scene.walls.left, box.top + max(2, box.height // 6), scene.walls.right)
    canvas.fade(foot, 0.6, 0.95)
