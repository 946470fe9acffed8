"""p2pkit: image-to-image translation as a toolkit.

The public API: ``hookimpl`` for plugins, ``load_model``, ``load_data``, ``create`` and ``components`` here, and these
modules: ``contracts`` (what components must be), ``hookspecs`` (what can be extended), ``errors`` (what users are
told), ``images`` (pixels), ``downloads`` (downloads, safe unpacking), ``training_step`` (what methods share),
``layers`` (what pix2pix's networks are made of), ``latent`` (noise as a vector), ``progress`` and ``storage`` (long
work, whole files), ``testing`` (what tests of components check).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2pkit import contracts, errors
from p2pkit.contracts import Batch, Judgement, Pair, WeightedLoss
from p2pkit.hookspecs import hookimpl
from p2pkit.version import __version__

if TYPE_CHECKING:
    from p2pkit.catalogue import components, create
    from p2pkit.inference.translator import load_model
    from p2pkit.recipe.loading import load_data

__all__ = [
    "Batch", "Judgement", "Pair", "WeightedLoss",
    "__version__", "components", "contracts", "create", "errors", "hookimpl", "load_data", "load_model",
]  # fmt: skip


_HOMES = {
    "components": "p2pkit.catalogue", "create": "p2pkit.catalogue",
    "load_data": "p2pkit.recipe.loading", "load_model": "p2pkit.inference.translator",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # these need torch or pydantic, which `p2pkit --help` and a plugin's registration must not pay for
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
