"""Models as checkpoints of the reference implementation that has such a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.components.host import manager
from p2pkit.components.signature import parameters_model, plain, validate
from p2pkit.contracts import DiscriminatorOutput, Policy
from p2pkit.errors import ExportError, ModelFileError, P2PKitError, RecipeError, shortened
from p2pkit.inference.frugal import frugally
from p2pkit.inference.model_file import find_model
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.policy import infer
from p2pkit.inference.rebuilding import rebuild
from p2pkit.networks.encoding import Encoded
from p2pkit.networks.reference import OfReference
from p2pkit.reference.architecture import Found, network_in, reference_names
from p2pkit.training.starting_point import StartingPoint
from p2pkit.utils.atomic import atomic_write, refuse_replacing

FORMAT = "reference"
"""What ``p2pkit export --format`` calls it."""
SIDE = 256
"""The side of the image on which networks are compared, where that of training is not known."""
TOLERANCE = 1e-5
"""The largest difference to the model, in images in [-1, 1] and in logits, with which a file is left there."""


@dataclass(frozen=True)
class ExportedCheckpoint:
    """The checkpoints that were made of a model."""

    generator: Path
    discriminator: Path | None
    """Where the model file, or its run, has one that the reference implementation has too."""
    difference: float
    """The largest difference to the model when the files were read again, without noise."""
    notices: Sequence[str]
    """What is otherwise in the reference implementation than in the model: a sentence on each."""


def export_checkpoint(model: str | Path, file: str | Path) -> ExportedCheckpoint:
    """Write the generator of ``model`` to ``file`` as a reference implementation saves it (``latest_net_G.pth``).

    Its discriminator, where the model file or the run folder has one, goes beside it: ``latest_net_D.pth``, or a name
    that ends in _D.

    Raises:
        ModelFileError: the model cannot be read.
        ExportError: the reference implementations have no such generator.
        WriteError: the disk is full, writing is not allowed, or the model is what would be written over.
    """
    file, given, notices = Path(file), manager().model_file(model), list[str]()
    refuse_replacing(file, [find_model(given)])
    start = StartingPoint.read(given)
    header = start.header
    network, seen = rebuild(find_model(given), header, dict(start.networks["generator"])), header.source_channels
    if isinstance(network, Encoded):
        notices.append("the encoding of sources is not in the file: give the network what is encoded")
        network, seen = network.network, cast(Any, network.encoding).channels
    channels, size = (seen, header.target_channels), header.size or (SIDE, SIDE)
    if header.sources:
        named = ", ".join(one.name for one in header.each_source)
        notices.append(f"the sources {named} are one image there, their channels behind one another in this order")
    if header.colours:
        notices.append("its sources and outputs are channels of CIELAB, not colours; see p2pkit inspect")
    difference, found = _write(f"{model}: its generator {header.generator!r}", network, file, channels, size)
    notices += _differences(header, found)
    beside: Path | None = None
    try:
        if (discriminator := _discriminator(start, channels)) is not None:
            called = f"{model}: its discriminator"
            other, _ = _write(called, discriminator, _beside(file), channels, size, "discriminators")
            beside, difference = _beside(file), max(difference, other)
    except (ExportError, ModelFileError, RecipeError) as error:
        notices.append(f"the discriminator is left out: {error}")
    return ExportedCheckpoint(file, beside, difference, notices)


def _write(
    what: str, network: nn.Module, file: Path, channels: tuple[int, int], size: tuple[int, int],
    kind: str = "generators",
) -> tuple[float, Found]:  # fmt: skip
    """Write a network, and read it again; the largest difference, and what was read."""
    refused = f"{what} is not one that a reference implementation has"
    refused += ", so nothing was written" if kind == "generators" else ""
    if not hasattr(network, "reference_layers"):
        raise ExportError(refused)
    with atomic_write(file) as aside:
        try:
            tensors = _tensors(network)
            with aside.open("wb") as stream:
                torch.save(tensors, stream)
            found = network_in(aside, kind, channels if kind == "discriminators" else ())
        except ModelFileError as error:
            raise ExportError(f"{refused}: {str(error).replace(str(aside), str(file))}") from error
        except KeyError as error:
            raise ExportError(f"{refused}: it has no layer like {error}") from error
        difference = _difference(network, found.network, channels, size, kind)
        if not difference <= TOLERANCE:
            raise ExportError(f"{refused}: read again, its outputs differ by up to {difference:.1e}")
    return difference, found


def _tensors(network: nn.Module) -> OrderedDict[str, Tensor]:
    """The tensors by the names that the reference implementation has for them."""
    names = reference_names(network)
    state = OrderedDict((names[name], tensor.detach().contiguous()) for name, tensor in network.state_dict().items())
    if any(isinstance(module, nn.InstanceNorm2d) for module in network.modules()):
        # every convolution of the reference implementations has a bias then
        layers = cast(OfReference, network).reference_layers()
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is None:
                state[f"{layers[name]}.bias"] = torch.zeros(module.out_channels)
    return state


def _difference(
    network: nn.Module, again: nn.Module, channels: tuple[int, int], size: tuple[int, int], kind: str
) -> float:
    """The largest difference between the outputs of two networks, without noise."""
    chance = torch.Generator().manual_seed(0)
    source, image = (torch.rand(1, count, *size, generator=chance) * 2 - 1 for count in channels)
    if kind == "generators":
        pair = [infer(each, source, Policy(dropout=False), [0]) for each in (network, again)]
    else:
        with torch.no_grad():
            pair = [DiscriminatorOutput.of(each.eval()(source, image)).logits[0] for each in (network, again)]
    return float((pair[0] - pair[1]).abs().amax().nan_to_num(nan=float("inf")))


def _discriminator(start: StartingPoint, channels: tuple[int, int]) -> nn.Module | None:
    """The discriminator of a model file or of a run, with its weights; None where there is none."""
    weights, said = start.weights_of("discriminator"), start.header.discriminator
    if not weights:
        return None
    table: Mapping[str, Any] = start.header.recipe_tables().get("discriminator", {})
    name = said.name if said else table.get("name", "")
    parameters = said.parameters if said else {key: value for key, value in table.items() if key != "name"}
    try:
        with frugally(weights):
            network: nn.Module = create(
                "discriminators", name, **parameters, source_channels=channels[0], target_channels=channels[1]
            )
        network.load_state_dict({key: weights[key] for key in network.state_dict() if key in weights})
    except (P2PKitError, RuntimeError) as error:
        raise ModelFileError(f"{start.path}: it cannot be rebuilt: {shortened(error)}") from error
    return network.requires_grad_(False)


def _differences(header: ModelHeader, found: Found) -> Iterator[str]:
    """What the reference implementation does otherwise than the model."""
    # a model file may leave defaults out
    own = plain(validate(parameters_model(found.registered, "generators"), header.parameters))
    theirs = {"dropout": 0.5, **found.told}
    unlike = [name for name in own if name.startswith("dropout") and theirs.get(name, own[name]) != own[name]]
    if own.get("dropout") and unlike:
        here, there = (", ".join(f"{name} = {each[name]}" for name in unlike) for each in (own, theirs))
        yield f"its noise is of another place or strength there: {there}, here {here}; all else is equal"
    if header.policy != Policy():
        yield (
            f"translate uses norm = {header.policy.norm!r}, dropout = {header.policy.dropout} with this model; the "
            "reference implementations use each batch's own statistics, and dropout, unless they are told --eval"
        )
    if header.ranges or {header.target_dtype, *(one.dtype for one in header.each_source)} != {"uint8"}:
        yield "-1 and 1 are other values than 0 and 255 of 8 bits for this model, and the reference knows no others"


def _beside(file: Path) -> Path:
    """Where the discriminator goes."""
    if "net_G" in file.name:
        return file.with_name(file.name.replace("net_G", "net_D"))
    return file.with_name(f"{file.stem}_D{file.suffix}")
