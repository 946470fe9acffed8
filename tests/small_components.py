"""Parameters that make components small, or possible, in tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from p2pkit.components.host import manager
from p2pkit.components.signature import parameters_model

Component = tuple[str, str]
"""Kind and name."""

DRAWN = {"name": "procedural_facades", "size": 32, "pairs": 5, "val_pairs": 2, "test_pairs": 2}
SMALL: dict[Component, dict[str, Any]] = {
    ("generators", "unet"): {"depth": 4, "width": 4},
    ("generators", "encoder_decoder"): {"depth": 4, "width": 4},
    ("generators", "resnet"): {"blocks": 1, "width": 4},
    # with few maps the network ends early, and small images do
    ("generators", "timm_unet"): {
        "backbone": "regnety_002",
        "width": 4,
        "timm": {"out_indices": [0, 1, 2], "zero_init_last": False},
    },
    ("discriminators", "projected"): {"backbone": "mobilenetv3_small_050", "pretrained": False, "width": 4},
    ("losses", "perceptual"): {"backbone": "mobilenetv3_small_050", "pretrained": False, "layers": [0, 1]},
    ("discriminators", "patchgan"): {"layers": 2, "width": 4},
    ("discriminators", "patchgan_1"): {"width": 4},
    ("discriminators", "patchgan_16"): {"width": 4},
    ("discriminators", "patchgan_70"): {"width": 4},
    ("discriminators", "patchgan_286"): {"width": 4},
    ("datasets", "procedural_facades"): {"size": 32, "pairs": 5, "test_pairs": 2},
    ("datasets", "pix2pix_archive"): {"archive": "maps"},
    ("datasets", "edges_from_targets"): {"of": DRAWN},
    ("datasets", "gray_from_targets"): {"of": DRAWN},
    ("datasets", "holes_from_targets"): {"of": DRAWN},
    ("encodings", "one_hot"): {"classes": 5},
    ("schedules", "step"): {"every": 3},
    ("metrics", "label_score"): {"classes": "cmp_facades"},
}
"""Small values for what is large by default, and values for what has no default."""
DOWNLOADED = {"pretrained"}
"""Parameters that, when chosen, need weights from elsewhere."""


def small_parameters(component: Component, **more: Any) -> dict[str, Any]:
    """The parameters of ``component`` in tests, with ``more`` of them; fails when one that it needs is not given."""
    parameters = {**SMALL.get(component, {}), **more}
    fields = _fields(component)
    missing = [name for name, field in fields.items() if field.is_required() and name not in parameters]
    assert not missing, f"{component} needs {', '.join(missing)}: add it to SMALL in tests/small_components.py"
    return parameters


def choices(component: Component) -> list[Mapping[str, Any]]:
    """``{}``, and each choice that a parameter with a few choices has beside its default, by itself."""
    fields = {name: field for name, field in _fields(component).items() if name not in DOWNLOADED}
    return [
        {},
        *(
            {name: choice}
            for name, field in fields.items()
            for choice in _values(field.annotation)
            if choice != field.default
        ),
    ]


def _values(annotation: Any) -> tuple[Any, ...]:
    if annotation is bool:
        return (False, True)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _fields(component: Component) -> Mapping[str, Any]:
    kind, name = component
    return parameters_model(manager().registry(kind).get(name), kind).model_fields
