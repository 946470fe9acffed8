"""Walls: brick, boards, stucco, render, plaster, concrete panels; courses follow the storeys of the facade."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pkit.builtin.datasets.facade_drawing.canvas import Pixels, across, down
from p2pkit.builtin.datasets.facade_drawing.geometry import PixelBox
from p2pkit.builtin.datasets.facade_drawing.scene import Scene

TABLE = 64


def paint_wall(scene: Scene, box: PixelBox, paint: Pixels, material: str) -> None:
    """Paint a box in a material."""
    view = scene.canvas.at(box)
    view[:] = paint
    if view.size == 0:
        return
    if material == "brick":
        _lay_bricks(scene, box, view)
    elif material == "boards":
        _lay_boards(scene, box, view)
    elif material == "blocks":
        _lay_blocks(scene, box, view)
    elif material == "panels":
        _join_panels(scene, box)
    blotches = {"render": 0.12, "panels": 0.08, "brick": 0.06}.get(material, 0.05)
    view *= _mottle(scene, view.shape[0], view.shape[1], blotches)[:, :, None]
    view *= 1.05 - 0.11 * across(view.shape[1])
    view *= 1.03 - 0.09 * down(view.shape[0])


def _courses(scene: Scene, box: PixelBox, count: int) -> tuple[NDArray[np.int64], Pixels, float]:
    """The course that each row of pixels is in, how far down in it the row is (0 to 1), and a course's height."""
    course = scene.unit / count
    position = (np.arange(box.top, box.bottom, dtype=np.float32) - scene.floor_lines[0] + 0.5) / course
    whole = np.floor(position)
    return whole.astype(np.int64), position - whole, course


def _table(scene: Scene, spread: float) -> Pixels:
    levels = scene.grain.bytes(TABLE, TABLE).astype(np.float32)
    return (levels - 127.5) * (spread / 127.5) + 1.0


def _lay_bricks(scene: Scene, box: PixelBox, view: Pixels) -> None:
    rows, depth, course = _courses(scene, box, scene.style.courses)
    brick = course * 2.6
    columns = np.arange(box.left, box.right, dtype=np.float32)
    table = _table(scene, 0.09)
    joint = 1.0 / brick if brick > 5 else 0.0
    for parity in (0, 1):
        position = (columns - scene.walls.left + 0.5) / brick + 0.5 * parity
        whole = np.floor(position)
        mine = np.flatnonzero(rows % 2 == parity)
        upright = np.where(position - whole < joint, 1.22, 1.0).astype(np.float32)
        tone = table[(rows[mine] % TABLE)[:, None], (whole.astype(np.int64) % TABLE)[None, :]] * upright
        view[mine] *= tone[:, :, None]
    if course >= 2:
        bed = 1.0 / course
        light = np.where(depth < bed, 1.25, np.where(depth > 1.0 - bed, 0.88, 0.98)).astype(np.float32)
        view *= light[:, None, None]


def _lay_boards(scene: Scene, box: PixelBox, view: Pixels) -> None:
    rows, depth, course = _courses(scene, box, scene.style.courses)
    if course >= 2:
        lip = 1.0 / course
        light = np.where(depth > 1.0 - lip, 0.7, 1.07 - 0.08 * depth).astype(np.float32)
        view *= (light * _table(scene, 0.02)[rows % TABLE, 0])[:, None, None]


def _lay_blocks(scene: Scene, box: PixelBox, view: Pixels) -> None:
    rows, depth, course = _courses(scene, box, scene.style.courses)
    block = course * 2.2
    columns = np.arange(box.left, box.right, dtype=np.float32)
    table = _table(scene, 0.03)
    for parity in (0, 1):
        position = (columns - scene.walls.left + 0.5) / block + 0.5 * parity
        whole = np.floor(position)
        mine = np.flatnonzero(rows % 2 == parity)
        upright = np.where(position - whole < 1.5 / block, 0.78, 1.0).astype(np.float32)
        tone = table[(rows[mine] % TABLE)[:, None], (whole.astype(np.int64) % TABLE)[None, :]] * upright
        view[mine] *= tone[:, :, None]
    view *= np.where(depth < 1.5 / course, 0.72, 1.0).astype(np.float32)[:, None, None]


def _join_panels(scene: Scene, box: PixelBox) -> None:
    canvas = scene.canvas
    for line in scene.floor_lines[1:-1]:
        if box.top < line < box.bottom:
            canvas.dim(PixelBox(line - 1, box.left, line + 1, box.right), 0.72)
            canvas.fade(PixelBox(line + 1, box.left, min(line + scene.length(0.3), box.bottom), box.right), 0.9, 1.0)
    for line in scene.bay_lines:
        canvas.dim(PixelBox(box.top, line - 1, box.bottom, line + 1), 0.78)


def _mottle(scene: Scene, height: int, width: int, spread: float) -> Pixels:
    """Soft blotches around 1."""
    cells = 6
    knots: Pixels = (scene.grain.bytes(cells + 1, cells + 1).astype(np.float32) - 127.5) * (spread / 255.0) + 1.0

    def along(count: int) -> tuple[NDArray[np.int64], Pixels]:
        position = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / count)
        whole = np.floor(position)
        return np.minimum(whole.astype(np.int64), cells - 1), position - whole

    row, row_share = along(height)
    column, column_share = along(width)
    lines: Pixels = knots[row] + (knots[row + 1] - knots[row]) * row_share[:, None]
    spots: Pixels = lines[:, column] + (lines[:, column + 1] - lines[:, column]) * column_share[None, :]
    return spots
