"""Checkpoints of the reference implementations as model files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomlkit
from pydantic import ValidationError

from p2pkit.errors import ModelFileError, counted, first_line, visible
from p2pkit.inference.model_file import write_model
from p2pkit.inference.model_header import (
    ComponentHeader,
    ModelHeader,
    OriginHeader,
    ResizeHeader,
    SideHeader,
    contradictions,
)
from p2pkit.reference.architecture import Found, network_in
from p2pkit.settings import height_width
from p2pkit.utils.atomic import refuse_replacing
from p2pkit.utils.tensor_file import checksum

CHANNELS = {1: "gray", 3: "rgb"}
"""What the PyTorch reference makes of every image that it reads, by the channels of its networks."""


@dataclass(frozen=True)
class Imported:
    """A model file that was made of a checkpoint."""

    model: Path
    header: ModelHeader
    assumed: Sequence[str]
    """What is not in the checkpoint, and was taken to be so: a sentence on each."""


def import_checkpoint(
    checkpoint: str | Path,
    out: str | Path,
    discriminator: str | Path | None = None,
    dropout: float | None = None,
    size: int | tuple[int, int] | Literal["source"] | None = None,
) -> Imported:
    """Write a model file of a generator that a reference implementation has trained (``latest_net_G.pth``).

    Names and shapes of its tensors tell the architecture: the PyTorch reference's U-Nets and ResNets, and whatever
    generator has ``from_reference``. With a ``discriminator`` (``latest_net_D.pth``) the model file holds that as well,
    for runs that begin with it (``train.init_from``).

    Args:
        dropout: the probability it was trained with, where the tensors do not tell; 0 for none.
        size: what sources are resized to before they are translated, a side or (height, width); "source" for their own
            size. Unless given, what the reference implementation does by default.

    Raises:
        ModelFileError: a file cannot be read, needs more than tensors, or is of no network known here
            (architecture.network_in).
        WriteError: the disk is full, writing is not allowed, or ``out`` is one of the checkpoints.
    """
    file, out = Path(checkpoint), Path(out)
    refuse_replacing(out, [file, *([] if discriminator is None else [Path(discriminator)])])
    generator = network_in(file, "generators", chosen={} if dropout is None else {"dropout": dropout})
    channels = (generator.told["source_channels"], generator.told["target_channels"])
    beside = None if discriminator is None else network_in(Path(discriminator), "discriminators", channels)
    wanted: Any = getattr(generator.network, "reference_size", "source") if size is None else size
    resized = None if wanted == "source" else height_width(wanted)
    try:
        header = _header(file, generator, beside, resized)
        if wrong := next(contradictions(header), None):
            raise ValueError(wrong)
    except ValueError as error:  # pydantic's among them
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else first_line(error)
        raise ModelFileError(f"{file}: there can be no model of it: {visible(reason)}") from error
    write_model(out, generator.network.state_dict(), header, None if beside is None else beside.network.state_dict())
    return Imported(out, header, list(_assumed(generator, resized, dropout is None, size is None)))


def _header(file: Path, generator: Found, beside: Found | None, resized: tuple[int, int] | None) -> ModelHeader:
    channels = (generator.told["source_channels"], generator.told["target_channels"])
    source, target = (
        SideHeader(channels=CHANNELS[count], alpha="drop", palette="colours") if count in CHANNELS else SideHeader()
        for count in channels
    )
    tables: dict[str, Any] = {
        "source": source.model_dump(exclude_defaults=True), "target": target.model_dump(exclude_defaults=True)
    }  # fmt: skip
    if resized:
        tables["transform"] = {"load_size": list(resized)}
    for called, found in (("generator", generator), ("discriminator", beside)):
        if found:
            tables[called] = {"name": found.registered.name, **found.parameters}
    return ModelHeader(
        generator=generator.registered.name,
        parameters=dict(generator.parameters),
        distribution=generator.registered.distribution,
        distribution_version=generator.registered.version,
        source_channels=channels[0],
        target_channels=channels[1],
        source_dtype="uint8",
        target_dtype="uint8",
        source_reading=source,
        target_reading=target,
        size=resized,
        resize=ResizeHeader(size=resized) if resized else None,
        discriminator=_component(beside) if beside else None,
        init_from=OriginHeader(
            path=str(file.absolute()), step=0, sha256_of_weights=checksum(generator.network.state_dict())
        ),
        recipe=tomlkit.dumps(tables),
    )


def _component(found: Found) -> ComponentHeader:
    return ComponentHeader(
        name=found.registered.name, parameters=dict(found.parameters), distribution=found.registered.distribution,
        distribution_version=found.registered.version,
    )  # fmt: skip


def _assumed(generator: Found, resized: tuple[int, int] | None, usual_dropout: bool, usual_size: bool) -> Iterator[str]:
    """What a checkpoint does not say, and no option has said."""
    own = generator.parameters
    if usual_dropout and own.get("dropout") and "dropout" not in generator.told:
        where = f" in the decoder blocks {own['dropout_blocks']} from the innermost" if "dropout_blocks" in own else ""
        yield f"trained with dropout of {own['dropout']}{where}, as by default; --dropout 0 if it was trained without"
    if usual_size and resized:
        height, width = resized
        yield f"sources are resized to {height}x{width} (height x width) as by default; --size if it was another size"
    elif usual_size:
        yield "sources keep their size; --size if they were resized"
    yield "values of 8 bits, 0 to 255, are -1 to 1, for sources and targets"
    source, target = (generator.told[f"{side}_channels"] for side in ("source", "target"))
    yield f"sources of {counted(source, 'channel')} become targets of {target}, in whatever direction it was trained"
    if source not in CHANNELS:
        yield "what the channels of sources are is not known; where they were encoded, sources are what was encoded"
