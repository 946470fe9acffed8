"""The kinds of component: what each is called, and what the assembly supplies to its factories."""

from __future__ import annotations

from collections.abc import Mapping

from p2pkit.errors import UnknownComponent, did_you_mean

SUPPLIED: Mapping[str, frozenset[str]] = {
    "generators": frozenset({"source_channels", "target_channels", "scale", "weights_follow"}),
    "discriminators": frozenset({"source_channels", "target_channels"}),
    "losses": frozenset({"source_channels", "target_channels"}),
    "datasets": frozenset({"split"}),
    "methods": frozenset(
        {"generator", "discriminator", "make_discriminator", "losses", "source_channels", "target_channels"}
    ),
    "metrics": frozenset(),
    "exporters": frozenset(),
    "encodings": frozenset({"source_channels", "source_range"}),
    "image_formats": frozenset(),
    "augmentations": frozenset({"source_channels", "target_channels"}),
    "optimizers": frozenset({"params"}),
    "schedules": frozenset(),
    "callbacks": frozenset(),
}
"""The kinds of component and, for each, the parameter names that the assembly supplies and a recipe never sets.

``weights_follow`` (give it the default false) is true when a model file's weights will be put into the generator: it
need not, and must not, look for others.
"""
DISCRIMINATORS_OF_METHODS = frozenset({"discriminator", "make_discriminator"})
"""What a method asks for one or both of that trains a discriminator; any other trains without."""

KINDS: tuple[str, ...] = tuple(SUPPLIED)
SINGULAR: Mapping[str, str] = {
    "generators": "generator",
    "discriminators": "discriminator",
    "losses": "loss",
    "datasets": "dataset",
    "methods": "method",
    "metrics": "metric",
    "exporters": "exporter",
    "encodings": "encoding",
    "image_formats": "image format",
    "augmentations": "augmentation",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "callbacks": "callback",
}
"""What one component of each kind is called."""


def kind_called(name: str) -> str:
    """The kind that ``name`` means, which may be singular or plural: "generators" for "generator".

    Raises:
        UnknownComponent: there is no such kind.
    """
    kind = next((kind for kind in KINDS if name in (kind, SINGULAR[kind])), None)
    if kind is None:
        raise UnknownComponent(f"there is no kind {name!r}{did_you_mean(name, KINDS)}; kinds: {', '.join(KINDS)}")
    return kind
