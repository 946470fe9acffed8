"""Which component a state dict of a reference implementation is of, and its weights by the component's own names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.components.host import manager
from p2pkit.components.kinds import SINGULAR, SUPPLIED
from p2pkit.components.registry import Registered
from p2pkit.components.signature import parameters_model, plain, validate
from p2pkit.errors import ModelFileError, P2PKitError, listed, shortened
from p2pkit.inference.frugal import frugally
from p2pkit.inference.model_file import refuse_not_finite
from p2pkit.networks.reference import OfReference, Shapes
from p2pkit.reference.checkpoint import StateDict, read_state_dicts

SHOWN = 6
"""How many of the tensors that do not fit are listed."""
COUNTER = ".num_batches_tracked"
"""What batch norm counts, which files of PyTorch before 0.4.1 do not have, and nothing depends on."""


@dataclass(frozen=True)
class Found:
    """A network in a file: the component that it is, with the parameters that its tensors tell, and its weights."""

    registered: Registered
    told: Mapping[str, Any]
    """The parameters that the tensors tell, those among them that the assembly supplies."""
    parameters: Mapping[str, Any]
    """All that a recipe sets, with defaults for what is neither told nor chosen."""
    network: nn.Module


def network_in(file: Path, kind: str, channels: tuple[int, ...] = (), chosen: Mapping[str, Any] | None = None) -> Found:
    """The component of ``kind`` ("generators", "discriminators") that a file of a reference implementation is of.

    ``channels`` are those of source and target, for a discriminator. ``chosen`` parameters are ones that no tensor
    tells; they take the place of others.

    Raises:
        ModelFileError: the file cannot be read (checkpoint.read_state_dicts); it is of no network known here, of
            several, or nearly of one; a weight is NaN or infinite; or the component takes no such parameters.
    """
    matches = []
    for state in read_state_dicts(file).values():
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        matches += [
            (state, registered, parameters) for registered, parameters in _guesses(file, kind, shapes, channels)
        ]
    if not matches:
        raise ModelFileError(_unknown(file, kind, state))
    if len(matches) > 1:
        names = ", ".join(f"{registered.name} of {registered.origin}" for _, registered, _ in matches)
        raise ModelFileError(
            f"{file}: it could be {names}; leave plugins out (--no-plugin), or save the state dict of one network alone"
        )
    state, registered, told = matches[0]
    for name, value in (chosen or {}).items():
        if name in told and bool(told[name]) != bool(value):
            raise ModelFileError(f"{file}: {name} = {value}, but its layers are those of {name} = {told[name]}")
    parameters = {**told, **(chosen or {})}
    supplied = {"weights_follow": True} if kind == "generators" else {}
    try:
        with frugally(state):
            network = create(kind, registered.name, **parameters, **supplied)
    except P2PKitError as error:
        raise ModelFileError(f"{file}: {registered.name} of {registered.origin}: {shortened(error)}") from error
    network.load_state_dict(_by_own_names(file, registered, network, state))
    refuse_not_finite(file, network.state_dict(), {})  # what was finite in 64 bits need not be so in 32
    own = {name: value for name, value in parameters.items() if name not in SUPPLIED[kind]}
    values = plain(validate(parameters_model(registered, kind), own))
    return Found(registered, told, values, network.eval().requires_grad_(False))


def reference_names(network: nn.Module) -> dict[str, str]:
    """What a reference implementation calls each of the tensors of a component that has ``reference_layers``.

    Raises:
        KeyError: it has no layer like that of a tensor; of that name.
    """
    layers, names = cast(OfReference, network).reference_layers(), {}
    for name in network.state_dict():
        layer, _, tensor = name.rpartition(".")
        names[name] = f"{layers[layer]}.{tensor}"
    return names


def _guesses(
    file: Path, kind: str, shapes: Shapes, channels: tuple[int, ...]
) -> Iterator[tuple[Registered, dict[str, Any]]]:
    """The components that may have tensors of these ``shapes``, and the parameters with which they would."""
    for registered in manager().registry(kind):
        # a variant of another component (functools.partial) has no attributes of the class, and need not be asked
        guess = getattr(registered.factory, "from_reference", None)
        try:
            parameters = guess(shapes, *channels) if guess else None
        except Exception as error:  # a stranger's, of a stranger's file
            raise ModelFileError(
                f"{file}: {registered.name} of {registered.origin} cannot look at it: {shortened(error)}"
            ) from error
        if parameters is not None:
            supplied = dict(zip(("source_channels", "target_channels"), channels, strict=False))
            yield registered, {**parameters, **supplied}


def _by_own_names(file: Path, registered: Registered, network: nn.Module, state: StateDict) -> dict[str, Tensor]:
    """The tensors by the names that ``network`` has for them; ModelFileError where they are not those it has."""
    own, weights, wrong = network.state_dict(), {}, []
    names = reference_names(network)
    for name, called in names.items():
        given, expected = state.get(called), own[name]
        if given is None and called.endswith(COUNTER):
            given = expected
        if given is None:
            wrong.append(f"{called} {list(expected.shape)} is not in the file")
        elif given.shape != expected.shape:
            wrong.append(f"{called} is {list(given.shape)} in the file, expected {list(expected.shape)}")
        elif expected.is_floating_point() and not given.is_floating_point():
            wrong.append(f"{called} is of {given.dtype} in the file, expected {expected.dtype}")
        else:
            weights[name] = given.to(expected.dtype)
    wrong += [f"{name} {list(state[name].shape)} is one more in the file" for name in state.keys() - names.values()]
    if wrong:
        raise ModelFileError(
            f"{file}: its tensors are nearly those of {registered.name} of {registered.origin}, but:"
            + listed(wrong, SHOWN)
        )
    return weights


def _unknown(file: Path, kind: str, state: StateDict) -> str:
    """Why nothing was found; whether it is of the other network of a pair, which is easily given in its place."""
    known = [each.name for each in manager().registry(kind) if hasattr(each.factory, "from_reference")]
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    other, channels = ("discriminators", (0, 0)) if kind == "generators" else ("generators", ())
    like = next((registered.name for registered, _ in _guesses(file, other, shapes, channels)), None)
    if like:
        hint = f"they are like those of the {SINGULAR[other]} {like}; give the file of the {SINGULAR[kind]}"
    else:
        hint = f"known are those of {', '.join(known)} (the PyTorch reference's)"
        hint += ", and with the plugin p2pkit-hd pix2pixHD's generators" if kind == "generators" else ""
    tensors = listed([f"{name} {list(tensor.shape)}" for name, tensor in state.items()], SHOWN)
    return f"{file}: no {SINGULAR[kind]} here has such tensors; {hint}:{tensors}"
