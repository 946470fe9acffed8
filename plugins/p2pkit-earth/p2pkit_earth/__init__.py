"""The whole earth as pairs: shaded relief and satellite image, from a package that pip installs."""

from __future__ import annotations

from p2pkit import hookimpl
from p2pkit.hookspecs import Register


@hookimpl
def register_datasets(register: Register) -> None:
    """Tiles of the relief, paired with the same tiles of the satellite image."""
    from p2pkit_earth.dataset import ReliefToSatellite

    register("relief_to_satellite", ReliefToSatellite)
