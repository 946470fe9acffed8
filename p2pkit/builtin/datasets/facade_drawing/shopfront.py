"""Shop fronts: a sign or an awning, plate glass with a lit interior, a low wall below."""

from __future__ import annotations

from p2pkit.builtin.datasets.facade_drawing.canvas import colour, down
from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox, PlacedPart
from p2pkit.builtin.datasets.facade_drawing.glazing import paint_bars, paint_border, paint_glass
from p2pkit.builtin.datasets.facade_drawing.scene import Scene


def paint_shop(scene: Scene, part: PlacedPart) -> None:
    """Paint a shop front."""
    canvas, box, sign = scene.canvas, part.box, scene.paints["sign"]
    head, foot = max(1, box.height // 5), max(1, box.height // 8)
    glass = box.rows(head, max(head + 1, box.height - foot))
    paint_glass(scene, glass, (part.variation - 128) * 0.06)
    lit = canvas.at(glass)
    lit += colour((46, 34, 12)) * down(glass.height)
    paint_bars(scene, glass, (max(1, round_div(glass.width, scene.length(0.5))), 1), scene.length(0.03), sign * 0.8)
    canvas.fill(box.rows(-foot, box.height), sign * 0.7)
    canvas.fade(box.rows(-foot, box.height), 1.1, 0.8)
    paint_border(scene, glass, scene.length(0.03), sign * 0.8)
    board = box.rows(0, head)
    canvas.fade(glass.rows(0, scene.length(0.15)), 0.5, 1.0)
    if part.form == "awning":
        _paint_awning(scene, box.rows(0, head * 2))
        return
    canvas.fill(board, sign)
    canvas.relief(board, 1, 1.25, 0.7)
    _letter(scene, board, part.variation)


def round_div(value: int, step: int) -> int:
    """``value / step`` rounded to the nearest integer."""
    return (2 * value + step) // (2 * step)


def _letter(scene: Scene, board: PixelBox, variation: int) -> None:
    tall, pitch = board.height // 3, scene.length(0.07) + 1
    middle, count = (board.left + board.right) // 2, min(5 + variation % 4, board.width // (pitch + 1))
    left = middle - count * pitch // 2
    for number in range(count):
        if (variation >> number) & 1 or number % 3:
            start = left + number * pitch
            stroke = PixelBox(board.top + tall, start, board.bottom - tall, start + pitch - 1)
            scene.canvas.veil(stroke, scene.paints["trim"], 0.8)


def _paint_awning(scene: Scene, box: PixelBox) -> None:
    canvas = scene.canvas
    scene.cast_shadow(box, scene.length(0.1), 0.4)
    stripe = max(2, scene.length(0.11))
    canvas.fill(box, scene.paints["sign"])
    for left in range(box.left + stripe, box.right, 2 * stripe):
        canvas.fill(PixelBox(box.top, left, box.bottom, min(left + stripe, box.right)), colour((232, 226, 212)))
    canvas.fade(box, 1.12, 0.92)
    canvas.dim(box.rows(-max(1, box.height // 5), box.height), 0.78)
