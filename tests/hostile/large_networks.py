"""Small model files that name networks which no machine holds, or which are never finished."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.hostile.attacks import MB, Attack
from tests.hostile.spoilt import export, header, named, picture, small_model, translate
from tests.model_files import change_header

NETWORKS = "model files that name large networks"
NAN = float("nan")


def _of_scale(folder: Path, scale: int) -> Path:
    """The file of a small network that does enlarge so much."""
    file = small_model(folder, scale=scale)
    change_header(file, scale=scale, parameters={"depth": 2, "width": 2, "norm": "none"})
    return file


ATTACKS = [
    Attack(
        NETWORKS,
        "64 times as high and wide",
        lambda folder: [
            "translate",
            _of_scale(folder, 64),
            picture(folder, 300),
            "--out",
            folder / "o",
            "--device",
            "cpu",
        ],
        ["image_bytes", "--tile"],
        memory=400 * MB,
    )
] + [
    Attack(
        NETWORKS,
        f"{command} with {named(parameters)}",
        partial(prepare, spoil=header("parameters", {"depth": 2, "width": 2, "norm": "none", **parameters})),
        ["model.safetensors", says],
    )
    for command, prepare in (("translate", translate), ("export", export))
    for parameters, says in (
        ({"width": 10**6}, "network_bytes"),
        ({"width": 2048}, "network_bytes"),
        ({"width": 10**18}, "rebuilt"),
        ({"width": 10**400}, "rebuilt"),
        ({"depth": 10**9}, "depth"),
        ({"depth": "2"}, "depth"),
        ({"dropout": -1}, "dropout"),
        ({"self": 1}, "self"),
        ({"width": NAN}, "finite"),
    )
]
LARGE: Sequence[tuple[str, dict[str, Any], str]] = (
    ("resnet", {"blocks": 10**9, "width": 1}, "rebuilt"),
    ("resnet", {"blocks": 10**6, "width": 1, "norm": "none"}, "layers"),
    ("resnet", {"width": 10**5}, "network_bytes"),
    ("timm_unet", {"backbone": "resnet18", "timm": {"block_args": {"x": 1}}}, "rebuilt"),
    ("timm_unet", {"backbone": "vit_tiny_patch16_224", "timm": {"img_size": 200_000}}, "network_bytes"),
    ("timm_unet", {"backbone": "convnext_atto", "timm": {"dims": [10**5] * 4}}, "network_bytes"),
    ("timm_unet", {"backbone": "convnext_atto", "timm": {"depths": [10**8, 1, 1, 1]}}, "rebuilt"),
    ("timm_unet", {"backbone": "hf-hub:evil/model"}, "backbone"),
    ("timm_unet", {"backbone": "../../etc/passwd"}, "backbone"),
    ("timm_unet", {"backbone": "resnet18", "timm": {"checkpoint_path": "/etc/passwd"}}, "checkpoint_path"),
    ("timm_unet", {"backbone": "resnet18", "timm": {"pretrained_cfg": {"file": "/etc/passwd"}}}, "pretrained_cfg"),
)
ATTACKS += [
    Attack(
        NETWORKS,
        f"{generator} with {named(parameters)}",
        memory=600 * MB,
        says=["model.safetensors", says],
        prepare=partial(translate, spoil=partial(change_header, generator=generator, parameters=parameters)),
    )
    for generator, parameters, says in LARGE
]
ATTACKS += [
    Attack(
        NETWORKS,
        "of 65536 channels",
        partial(
            translate,
            spoil=partial(
                change_header, source_channels=65536, target_channels=65536, parameters={"depth": 2, "width": 1024}
            ),
        ),
        ["network_bytes"],
    ),
    Attack(
        NETWORKS,
        "an encoding of many classes",
        partial(
            translate,
            spoil=partial(
                change_header,
                source_channels=1,
                source_dtype="uint16",
                parameters={"depth": 2, "width": 1024},
                encoding={
                    "name": "one_hot",
                    "parameters": {"classes": 65536},
                    "distribution": "p2pkit",
                    "distribution_version": "0",
                },
            ),
        ),
        ["network_bytes"],
    ),
    Attack(
        NETWORKS,
        "an encoding of no classes",
        partial(
            translate,
            spoil=partial(
                change_header,
                source_channels=1,
                encoding={
                    "name": "one_hot",
                    "parameters": {"classes": -1},
                    "distribution": "p2pkit",
                    "distribution_version": "0",
                },
            ),
        ),
        ["classes"],
    ),
    Attack(
        NETWORKS,
        "from a distribution that is not here",
        partial(translate, spoil=partial(change_header, generator="other", distribution="evil-package")),
        ["pip install evil-package"],
    ),
]
