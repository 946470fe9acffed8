"""The plugins of this project that are distributions of their own: what to say where one of them is not installed."""

from __future__ import annotations

from collections.abc import Mapping

PROVIDED: Mapping[str, tuple[str, ...]] = {
    "bicyclegan": ("bicyclegan", "bicyclegan_unet"),
    "earth": ("relief_to_satellite",),
    "hd": ("class_and_boundary", "hd_global", "hd_local", "hd_multiscale", "pix2pix_hd"),
    "web": ("serve", "study"),
    "webdataset": ("shard", "webdataset", "webdataset_http"),
}
"""Each by its name as a plugin, and the components and commands that it provides."""


def how_to_install(plugin: str) -> str:
    """How to get a plugin of this project."""
    distribution = f"p2pkit-{plugin}"
    in_a_clone = f"pip install plugins/{distribution}, or give --plugins-dir plugins before the command"
    return f"pip install {distribution} (in a clone of p2pkit, {in_a_clone})"


def provided_elsewhere(name: str) -> str:
    """Which plugin of this project provides a component or command, and how to install it; "" where none does."""
    plugin = next((plugin for plugin, names in PROVIDED.items() if name in names), None)
    return f"p2pkit-{plugin} provides it and is not installed: {how_to_install(plugin)}" if plugin else ""
