"""Starting points (``[train] init_from``): weights of a trained model put into new networks, as far as they fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from p2pkit.contracts import ValueRange, dtype_range
from p2pkit.data.sets import Data
from p2pkit.data.side_values import BySide
from p2pkit.errors import ModelFileError, RecipeError, listed
from p2pkit.inference.model_file import find_model, read_model_networks, refuse_not_finite
from p2pkit.inference.model_header import ModelHeader, OriginHeader
from p2pkit.run_records import Environment, read_record
from p2pkit.training.checkpoint import read_networks
from p2pkit.training.parts import TrainingParts
from p2pkit.training.prepare import EMA
from p2pkit.utils.tensor_file import checksum

KEY = "train.init_from"
SHOWN = 6
"""How many of the tensors that do not fit are listed."""
_WRAPPED = re.compile(r"^(network\.)+")
"""Networks behind an encoding, or with augmented images, have their own names below this."""


class Fit(NamedTuple):
    """What weights come to in a network."""

    fitting: dict[str, Tensor]
    """By the network's own names."""
    adapted: list[str]
    """Those of a first layer that sees other channels."""
    left: list[str]
    """What stays as it is initialised, and why, a line each."""

    def report(self, network: str) -> str:
        """A sentence on it, and what is left below that."""
        adapted = f", of which {', '.join(self.adapted)} is adapted to other channels" if self.adapted else ""
        left = f"; not from there, but initialised:{listed(self.left, SHOWN)}" if self.left else ""
        return f"{KEY}: {network} begins with {len(self.fitting)} tensors of the model{adapted}{left}"


@dataclass(frozen=True)
class StartingPoint:
    """A trained model whose weights a run begins with; of a run folder with its other networks too, and with the
    discriminator where the model file has one."""

    path: Path
    header: ModelHeader
    networks: Mapping[str, Mapping[str, Tensor]]
    """The tensors of each network, "generator" among them."""

    @classmethod
    def read(cls, path: Path) -> StartingPoint:
        """The model file, or what is in the run folder: the model, and the last checkpoint's other networks.

        Raises:
            ModelFileError: there is no model, it is damaged, or its weights are NaN or infinite; or the checkpoint is
                of another run.
        """
        file = find_model(path)
        header, networks = read_model_networks(file)
        for weights in networks.values():
            refuse_not_finite(file, weights, {})
        others = _beside(file, header, networks["generator"]) if path.is_dir() else {}
        return cls(file.parent if path.is_dir() else file, header, {**others, **networks})

    @property
    def origin(self) -> OriginHeader:
        """What a model file says of it."""
        digest = checksum(dict(self.networks["generator"]))
        return OriginHeader(path=str(self.path.absolute()), step=self.header.step, sha256_of_weights=digest)

    def weights_of(self, network: str) -> dict[str, Tensor]:
        """The tensors of a network by the names that they have without an encoding or augmentation around it."""
        return {_WRAPPED.sub("", key): tensor for key, tensor in self.networks.get(network, {}).items()}

    def with_ranges(self, data: Data, report: Callable[[str], Any] = str) -> Data:
        """``data`` in the model's ranges of values, where the recipe says nothing of a side and its type is the same.

        Of the other sides the range is found as without a model. ``report`` gets a line for each of both.
        """
        known = {f"source.{one.name}".rstrip("."): (one.dtype, one.range) for one in self.header.each_source}
        known["target"] = self.header.target_dtype, self.header.target_range
        found, values, notices = dict[str, ValueRange](), dict(data.values), list[str]()
        for side in data.first.header.sides:
            rule, image = data.values[side].rule, data.first.image(side)
            if rule != "default" or image is None:
                continue
            dtype, chosen = known.get(side, known.get("source", ("", None)))
            if dtype != str(image.dtype):
                notices.append(
                    f"{KEY}: {side} pixels are of {image.dtype}, the model's of {dtype or 'no such source'}; their "
                    f"range is found in the data. Set {side}.range if the model's values mean the same"
                )
                continue
            values[side] = data.values[side]._replace(rule="declared")
            if chosen not in (None, dtype_range(image.dtype)):
                found[side] = low, high = chosen
                notices.append(f"{KEY}: {side} values from {low:g} to {high:g} become -1 to 1, as for the model")
        for notice in notices:
            report(notice)
        return replace(data, values=BySide(values)).with_ranges(found, notices)

    def put_into(self, parts: TrainingParts) -> tuple[TrainingParts, list[str]]:
        """``parts`` with the weights put in and the origin in the model's header; what is to be said, a line each.

        Raises:
            RecipeError: the model is of another generator, or nothing of it fits.
        """
        known, wanted, reports = self.header, parts.header, []
        if known.generator != wanted.generator:
            raise RecipeError(
                f"{KEY}: {self.path} is a model of the generator {known.generator!r}, the recipe's is "
                f'{wanted.generator!r}; set generator.name = "{known.generator}", or leave {KEY} out'
            )
        for name in parts.method.networks:
            network = getattr(parts.method, name)
            if name not in self.networks:
                where = "the model file holds the generator alone" if self.path.is_file() else "it has no such network"
                remedy = "; give the run folder if it is at hand" if self.path.is_file() else ""
                reports.append(f"{KEY}: {name} begins anew: {where}{remedy}")
                continue
            fit = self.fit(name, network, wanted)
            if name == "generator" and not fit.fitting:
                unlike = self._unlike(wanted) or "its tensors have other names"
                raise RecipeError(f"{KEY}: {self.path}: no tensor fits the recipe's generator; {unlike}")
            if not any(one.is_meta for one in network.parameters()):
                network.load_state_dict({**network.state_dict(), **fit.fitting})
            reports.append(fit.report(name))
        reports += [
            f"{KEY}: {unlike}" for unlike in (self._unlike(wanted), self._unlike_discriminator(wanted)) if unlike
        ]
        return replace(parts, header=wanted.model_copy(update={"init_from": self.origin})), reports

    def fit(self, name: str, network: nn.Module, wanted: ModelHeader) -> Fit:
        """What of the weights called ``name`` fits ``network``, by names and shapes, for sources and targets as
        ``wanted`` has them."""
        saved = self.weights_of(name)
        images = (self.header.target_channels, wanted.target_channels) if name == "discriminator" else (0, 0)
        encoded, now_encoded = (any(one.encoding for one in header.each_source) for header in (self.header, wanted))
        fit = Fit({}, [], [])
        first = next((key for key, one in network.named_parameters() if one.ndim == 4), "")
        for key, own in network.state_dict().items():
            given = saved.get(_WRAPPED.sub("", key))
            if given is None:
                if own.ndim:  # counters and probabilities are no weights
                    fit.left.append(f"{key} {list(own.shape)}: the model has none")
                continue
            alike = given.shape == own.shape
            other_channels = key == first and (not alike or images[0] != images[1]) and encoded == now_encoded
            if other_channels and [*given.shape[:1], *given.shape[2:]] == [*own.shape[:1], *own.shape[2:]]:
                fit.fitting[key] = adapted(given, own, images, encoded).to(own.dtype)
                fit.adapted.append(f"{key} ({given.shape[1]} to {own.shape[1]})")
            elif alike:
                fit.fitting[key] = given.to(own.dtype)
            else:
                fit.left.append(f"{key} {list(own.shape)}: the model's is {list(given.shape)}")
        return fit

    def _unlike(self, wanted: ModelHeader) -> str:
        """How the recipe's generator differs from the model's in its parameters, as the keys that would mend it."""
        return _differing("generator", self.header.parameters, wanted.parameters)

    def _unlike_discriminator(self, wanted: ModelHeader) -> str:
        """The same of the discriminator, where the model file has one."""
        if (there := self.header.discriminator) is None:
            return ""
        return _differing("discriminator", there.parameters, wanted.recipe_tables().get("discriminator", {}))


def _differing(network: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    keys = [f"{network}.{key} = {value!r}" for key, value in there.items() if here.get(key, value) != value]
    return f"the model has {', '.join(keys)}" if keys else ""


def _beside(file: Path, header: ModelHeader, weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The networks in the last checkpoint of the run that a model file is of.

    Raises:
        ModelFileError: it is of another run, as environment.json says, or weights of the same step that differ.
    """
    networks, identity, step = read_networks(file.parent / "checkpoints")
    same = read_record(file.parent / "environment.json", Environment).get("id") in (None, identity.run)
    if networks and step == header.step:  # a kill may leave the model of an earlier one
        of_ema = {name.removeprefix("module."): tensor for name, tensor in networks.get(EMA, {}).items()}
        same = same and any(_alike(weights, made) for made in (networks.get("generator", {}), of_ema))
    if networks and not same:
        raise ModelFileError(
            f"{file.parent}: the checkpoint of step {step} is of another run than {file.name}; to begin with the model "
            f'alone, set {KEY} = "{file}"'
        )
    return networks


def _alike(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return all(name in others and tensor.equal(others[name]) for name, tensor in weights.items())


def adapted(weight: Tensor, own: Tensor, images: tuple[int, int] = (0, 0), encoded: bool = False) -> Tensor:
    """A convolution's weight [O, I, H, W] for the input channels of ``own`` [O, J, H, W], as it is initialised.

    The last ``images`` channels, of the one and of the other, are those of the image that a discriminator sees beside
    its source; the two are adapted each by itself. Channels of classes (``encoded``) keep their weights, and new ones
    theirs of ``own``.
    """
    before, now = images
    if 0 < before < weight.shape[1] and 0 < now < own.shape[1]:
        source = adapted(weight[:, :-before], own[:, :-now], encoded=encoded)
        return torch.cat([source, adapted(weight[:, -before:], own[:, -now:])], dim=1)
    count, channels = weight.shape[1], own.shape[1]
    if encoded:
        return torch.cat([weight[:, :channels], own[:, count:].to(weight)], dim=1)
    return in_channels(weight, channels)


def in_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight [O, I, H, W] for another number of input channels [O, channels, H, W].

    They are repeated, or averaged where there are fewer, and scaled so that like channels give what they gave.
    """
    count = weight.shape[1]
    if channels == count:
        return weight
    if channels < count:
        return weight.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1) * (count / channels)
    return weight[:, [index % count for index in range(channels)]] * (count / channels)
