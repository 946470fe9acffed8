"""Hostile files given to ``p2pkit translate``, by the smallest models that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pkit.components.catalogue import create
from p2pkit.inference.model_file import write_model
from p2pkit.inference.model_header import ModelHeader, PlanesHeader
from tests.hostile.attacks import Attack

IMPLAUSIBLE = ("more pixels than are plausible", "--limit image_bytes=")
DAMAGED = ("damaged",)
Content = Callable[[], bytes]


@cache
def model(channels: int = 3, planes: bool = False) -> bytes:
    """The file of an untrained generator, of images or of planes of volumes."""
    generator = create("generators", "unet", source_channels=channels, target_channels=channels, depth=2, width=2)
    header = ModelHeader(
        generator="unet", parameters={"depth": 2, "width": 2}, distribution="p2pkit", distribution_version="0",
        source_channels=channels, target_channels=channels, source_dtype="uint8", target_dtype="uint8", step=7,
        source_range=(0, 255), planes=PlanesHeader(axis=2, neighbours=0) if planes else None,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        write_model(Path(folder, "model.safetensors"), generator.state_dict(), header)
        return Path(folder, "model.safetensors").read_bytes()


def translate(folder: Path, file: Path, *options: object, channels: int = 3, planes: bool = False) -> Sequence[object]:
    """The arguments that translate ``file`` with a model that is written into ``folder``."""
    (folder / "m.safetensors").write_bytes(model(channels, planes))
    return ["translate", folder / "m.safetensors", file, "--out", folder / "out", "--device", "cpu", *options]


def given(
    family: str, name: str, file: str, content: Content, says: Sequence[str] = IMPLAUSIBLE, *options: object,
    planes: bool = False, limit: str = "", **more: Any,
) -> Attack:  # fmt: skip
    """The attack of a file called ``file`` with such a ``content``, for a model of images or of ``planes``.

    A ``limit`` that is lower than usual lets a bomb that is unpacked to see how large it is be a small one.
    """
    channels = 3

    if planes:
        name, channels = f"{name}, a volume", 1
    if "--tile" in options:
        name = f"{name}, in tiles"

    def prepare(folder: Path) -> Sequence[object]:
        (folder / file).write_bytes(content())
        before = ["--limit", limit] if limit else []
        return [*before, *translate(folder, folder / file, *options, channels=channels, planes=planes)]

    return Attack(family, name, prepare, says, **more)
