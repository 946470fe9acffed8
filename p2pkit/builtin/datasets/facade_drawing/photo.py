"""The photo of a facade: every part painted in turn, then taken with a camera."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from p2pkit.builtin.datasets.facade_drawing.backdrop import paint_backdrop
from p2pkit.builtin.datasets.facade_drawing.canvas import FINENESS, Pixels, across, down
from p2pkit.builtin.datasets.facade_drawing.geometry import PlacedPart, Plan
from p2pkit.builtin.datasets.facade_drawing.glazing import paint_window
from p2pkit.builtin.datasets.facade_drawing.joinery import paint_balcony, paint_blind, paint_door
from p2pkit.builtin.datasets.facade_drawing.materials import paint_wall
from p2pkit.builtin.datasets.facade_drawing.palette import Label
from p2pkit.builtin.datasets.facade_drawing.rng import Rng
from p2pkit.builtin.datasets.facade_drawing.scene import Scene, set_scene
from p2pkit.builtin.datasets.facade_drawing.shopfront import paint_shop
from p2pkit.builtin.datasets.facade_drawing.stonework import (
    paint_cornice,
    paint_deco,
    paint_molding,
    paint_pillar,
    paint_sill,
)


def paint_facade(scene: Scene, part: PlacedPart) -> None:
    """Paint a piece of bare wall; plastered houses stand on a ground floor of stone blocks."""
    ground = part.form == "ground wall"
    plastered = scene.style.material in ("stucco", "render")
    material = "blocks" if ground and plastered else scene.style.material
    paint_wall(scene, part.box, scene.paints["ground_wall" if ground else "wall"], material)
    if ground:
        plinth = part.box.rows(-scene.length(0.14), part.box.height)
        scene.canvas.fade(plinth, 0.84, 0.68)
        scene.canvas.dim(plinth.rows(0, 1), 1.2)


PAINTERS: Mapping[Label, Callable[[Scene, PlacedPart], None]] = {
    Label.FACADE: paint_facade,
    Label.WINDOW: paint_window,
    Label.DOOR: paint_door,
    Label.CORNICE: paint_cornice,
    Label.SILL: paint_sill,
    Label.BALCONY: paint_balcony,
    Label.BLIND: paint_blind,
    Label.DECO: paint_deco,
    Label.MOLDING: paint_molding,
    Label.PILLAR: paint_pillar,
    Label.SHOP: paint_shop,
}


def paint_photo(plan: Plan, parts: Iterable[PlacedPart], height: int, width: int, grain: Rng) -> NDArray[np.uint8]:
    """The photo [height, width, 3] of a plan whose parts lie on the pixel grid."""
    scene = set_scene(plan, height, width, grain)
    paint_backdrop(scene)
    for part in parts:
        finer = PlacedPart(part.label, part.box.times(FINENESS), part.form, part.variation)
        PAINTERS[part.label](scene, finer)
    return _develop(scene.canvas.pixels, grain)


def _develop(pixels: Pixels, grain: Rng) -> NDArray[np.uint8]:
    """Average down to the photo's size, soften, expose, and add the sensor's noise (about 3.5 levels)."""
    np.clip(pixels, 0.0, 255.0, out=pixels)
    photo = (pixels[0::2, 0::2] + pixels[0::2, 1::2] + pixels[1::2, 0::2] + pixels[1::2, 1::2]) * np.float32(0.25)
    photo = _soften(_soften(photo).swapaxes(0, 1)).swapaxes(0, 1)
    height, width = photo.shape[:2]
    x, y = across(width) - 0.5, down(height) - 0.5
    photo = photo * (random_exposure(grain) * (1.02 - 0.16 * (x * x + y * y)))
    specks = grain.bytes(height, width, 3)
    noise = ((specks >> 4).astype(np.float32) + (specks & 15).astype(np.float32) - 15.0) * np.float32(0.54)
    return np.clip(np.floor(photo + noise + np.float32(0.5)), 0.0, 255.0).astype(np.uint8)


def random_exposure(grain: Rng) -> float:
    """How much lighter or darker than usual this photo is."""
    return grain.between(0.96, 1.04)


def _soften(photo: Pixels) -> Pixels:
    soft = photo.copy()
    soft[1:-1] = photo[1:-1] * np.float32(0.75) + (photo[:-2] + photo[2:]) * np.float32(0.125)
    return soft
